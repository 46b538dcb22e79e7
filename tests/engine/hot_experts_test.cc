// Moving hot experts between steps, over slots without a GPU: copies take as many steps as they
// like, and what the table says always lies in the slot that it names.
#include "engine/hot_experts.h"

#include <cstdio>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "engine/hot_file.h"

namespace tandem::engine {
namespace {

constexpr int kLayers = 3, kExperts = 12;

class FakeSlots : public ops::HotSlots {
 public:
  void map(int layer, int expert, int slot) override {
    table_[{layer, expert}] = slot;
    if (slot < 0) return;
    const int holds = contents_[{layer, slot}];
    EXPECT_EQ(holds, expert);
  }
  void begin_copy(int layer, int expert, int slot) override {
    copies_.push_back({layer, expert, slot});
    contents_[{layer, slot}] = expert;  // as fill() maps ahead of its copies
  }
  int advance(platform::ThreadPool&, bool wait) override {
    const auto most = static_cast<uint32_t>(copies_.size());
    const int arrived = static_cast<int>(wait ? most : random_() % (most + 1));
    copies_.erase(copies_.begin(), copies_.begin() + arrived);
    return arrived;
  }
  std::span<const uint32_t> pairs() const override { return pairs_; }
  int64_t hits() const override { return hits_; }
  void forget() override {
    std::fill(pairs_.begin(), pairs_.end(), 0U);
    hits_ = 0;
  }

  // A step's routing, after a look at what the table says.
  void step(int first) {
    std::map<std::pair<int, int>, int> owners;
    for (const auto& [key, slot] : table_) {
      if (slot < 0) continue;
      EXPECT_TRUE(owners.insert({{key.first, slot}, key.second}).second) << "slot " << slot;
      for (const Copy& copy : copies_) {
        EXPECT_FALSE(copy.layer == key.first && copy.slot == slot) << "read while it is written";
      }
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int i = 0; i < 2; ++i) {
        const int expert = (first + static_cast<int>(random_() % 4)) % kExperts;
        ++pairs_[static_cast<size_t>(layer * kExperts + expert)];
        hits_ += table_.contains({layer, expert}) && table_[{layer, expert}] >= 0;
      }
    }
  }

 private:
  struct Copy {
    int layer, expert, slot;
  };
  std::mt19937 random_{1};
  std::map<std::pair<int, int>, int> table_, contents_;
  std::vector<Copy> copies_;
  std::vector<uint32_t> pairs_ = std::vector<uint32_t>(kLayers * kExperts);
  int64_t hits_ = 0;
};

TEST(HotExperts, MoveOnlyIntoSlotsThatNobodyReads) {
  platform::ThreadPool pool({.threads = 1, .pin = false});
  FakeSlots slots;
  HotExperts hot(slots, HotChoice({5, 0, 4}, kExperts, {.ratio = 0.5, .margin = -1.0}), {1, 2, 4},
                 "");
  hot.fill(pool);
  EXPECT_EQ(hot.statistics().used_slots, 9);
  for (int step = 0; step < 400; ++step) {
    slots.step(step / 20);
    hot.after_step(pool, step % 3 == 0 ? 100 : 1);
  }
  const HotStatistics statistics = hot.statistics();
  EXPECT_EQ(statistics.slots, 9);
  EXPECT_EQ(statistics.pairs, 400 * kLayers * 2);
  EXPECT_GT(statistics.switches, 200);
  EXPECT_GT(statistics.hits, 0);
}

TEST(HotExperts, LeaveTheirCountsInTheFile) {
  const std::string path = ::testing::TempDir() + "hot_experts_test.json";
  std::remove(path.c_str());
  platform::ThreadPool pool({.threads = 1, .pin = false});
  FakeSlots slots;
  {
    HotExperts hot(slots, HotChoice({4, 4, 4}, kExperts), {1, 2, 4}, path);
    hot.fill(pool);
    for (int step = 0; step < 50; ++step) {
      slots.step(6);
      hot.after_step(pool, 1);
    }
    // Tokens went to four experts, which have all slots by now.
    EXPECT_GT(hot.statistics().hits, hot.statistics().pairs / 2);
  }
  const HotCounts counts = read_hot_file(path, std::vector<int>{4}, kExperts);
  double sum = 0.0;
  for (size_t e = 0; e < kExperts; ++e) {
    sum += counts.counts[e];
    EXPECT_EQ(counts.counts[e] > 0.0, e >= 6 && e < 10) << e;
  }
  EXPECT_EQ(sum, 100.0);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace tandem::engine
