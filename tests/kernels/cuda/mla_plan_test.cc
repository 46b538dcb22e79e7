// Plans of latent attention cover every row and key once; needs no device.
#include "kernels/cuda/mla_plan.h"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace tandem::cuda {
namespace {

struct Step {
  std::vector<int32_t> token_starts = {0}, page_starts = {0}, keys;
  void add(int tokens, int count) {
    token_starts.push_back(token_starts.back() + tokens);
    page_starts.push_back(page_starts.back() + (count + 63) / 64);
    keys.push_back(count);
  }
  AttentionBatch view() const {
    return {token_starts.data(), page_starts.data(), keys.data(), static_cast<int>(keys.size())};
  }
};

// A filled plan and its arrays.
struct Plan {
  Plan(const MlaShape& shape, const Step& step, int64_t room, int processors)
      : multiprocessors(processors),
        memory(mla_plan_bytes(room, processors), std::byte{0x5a}),
        filled(fill_mla_plan(shape, step.view(), room, processors, memory)) {}
  int32_t at(MlaWord word, size_t index) const {
    return reinterpret_cast<const int32_t*>(memory.data() + filled.plan.words[word])[index];
  }
  int multiprocessors;
  std::vector<std::byte> memory;
  FilledPlan filled;
};

void expect_covers(const MlaShape& shape, const Step& step, const Plan& plan) {
  const AttentionBatch batch = step.view();
  const int64_t tile = plan.filled.plan.words[kGridX] * kMlaTile;
  const auto columns = static_cast<size_t>(plan.filled.plan.words[kGridY]);
  // first row of a tile, of all rows -> ranges of keys
  std::map<int64_t, std::map<int, int>> ranges;
  std::map<int64_t, std::set<int>> partial;  // and rows of partial results
  for (size_t i = 0; i < static_cast<size_t>(plan.at(kPieceStart, columns)); ++i) {
    const int64_t row = int64_t{plan.at(kTokenStart, i)} * shape.heads + plan.at(kRowStart, i);
    ASSERT_TRUE(ranges[row].emplace(plan.at(kKeyStart, i), plan.at(kKeyEnd, i)).second);
    if (plan.at(kPartialStart, i) >= 0) partial[row].insert(plan.at(kPartialStart, i));
  }
  std::map<int64_t, int64_t> merges;  // first row -> end
  std::map<int64_t, int64_t> merge_partial;
  for (size_t m = 0; m < static_cast<size_t>(plan.multiprocessors); ++m) {
    if (plan.at(kMergeRowEnd, m) == plan.at(kMergeRowStart, m)) continue;
    merges[plan.at(kMergeRowStart, m)] = plan.at(kMergeRowEnd, m);
    merge_partial[plan.at(kMergeRowStart, m)] = plan.at(kMergePartialStart, m);
  }
  std::set<int64_t> partial_rows;
  for (int r = 0; r < batch.requests; ++r) {
    const int64_t tokens = batch.token_starts[r + 1] - batch.token_starts[r];
    const int64_t first = int64_t{batch.token_starts[r]} * shape.heads;
    for (int64_t row = 0; row < tokens * shape.heads; row += tile) {
      const int64_t rows = std::min(tile, tokens * shape.heads - row);
      const int64_t last_token = (row + rows - 1) / shape.heads;
      const auto& own = ranges[first + row];
      int next = 0;
      for (const auto& [begin, end] : own) {
        ASSERT_EQ(begin, next);
        next = end;
      }
      ASSERT_GE(next, batch.keys[r] - tokens + 1 + last_token);
      ASSERT_LE(next, batch.keys[r]);
      if (own.size() == 1) {
        ASSERT_TRUE(partial[first + row].empty());
        continue;
      }
      ASSERT_EQ(partial[first + row].size(), own.size());
      for (const int start : partial[first + row]) {
        for (int64_t i = 0; i < rows; ++i) ASSERT_TRUE(partial_rows.insert(start + i).second);
      }
      int64_t merged = 0;
      while (merged < rows) {
        const auto it = merges.find(first + row + merged);
        ASSERT_TRUE(it != merges.end());
        ASSERT_EQ(merge_partial[it->first], *partial[first + row].begin() + merged);
        merged = it->second - first - row;
      }
      ASSERT_EQ(merged, rows);
    }
  }
  if (!partial_rows.empty()) {
    EXPECT_LT(*partial_rows.rbegin(), int64_t{2} * plan.multiprocessors * kMlaTile);
  }
}

TEST(MlaPlan, CoversEveryRowAndKeyOnce) {
  std::mt19937 bits(1);
  const auto below = [&](int limit) {
    return static_cast<int>(bits() % static_cast<uint32_t>(limit));
  };
  for (int round = 0; round < 400; ++round) {
    const int heads[] = {1, 16, 20, 128}, processors[] = {28, 108, 131, 132};
    const MlaShape shape = {.heads = heads[below(4)], .page_size = 64};
    const int multiprocessors = processors[below(4)];
    Step step;
    const int requests = 1 + below(below(2) == 0 ? 4 : 70);
    for (int i = 0; i < requests; ++i) {
      const int tokens = below(4) == 0 ? 1 + below(300) : 1;
      step.add(tokens, tokens + below(below(2) == 0 ? 40 : 9000));
    }
    const int64_t room = mla_pieces(shape, step.token_starts.back(), multiprocessors);
    expect_covers(shape, step, Plan(shape, step, room, multiprocessors));
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

// What a graph holds is the same for every number of decodes.
TEST(MlaPlan, IsEqualForEveryBatchOfDecodes) {
  std::mt19937 bits(2);
  for (const int heads : {16, 128}) {
    const MlaShape shape = {.heads = heads, .page_size = 64};
    const int64_t room = mla_pieces(shape, 64, 132);
    MlaPlan first;
    for (int requests = 1; requests <= 64; ++requests) {
      Step step;
      for (int i = 0; i < requests; ++i) step.add(1, 1 + static_cast<int>(bits() % 20000));
      const Plan plan(shape, step, room, 132);
      if (requests == 1) first = plan.filled.plan;
      EXPECT_TRUE(plan.filled.plan == first) << requests;
      EXPECT_LE(plan.filled.bytes, 16384U);
    }
  }
}

}  // namespace
}  // namespace tandem::cuda
