// The fused experts equal a plain evaluation token by token, at any batch, thread count and number
// of parts, bit for bit.
#include "moe/experts.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ops/linear.h"
#include "tests/quant/random_stack.h"

namespace tandem::moe {
namespace {

using testing::activations_for;
using testing::random_floats;
using testing::RandomStack;

constexpr int kExperts = 7, kUsed = 3;

struct Case {
  std::string name;
  DType gate, up, down;
  int64_t width, hidden;  // M, F
  int64_t shared_hidden;  // Fs, 0: no shared expert
  DType shared, shared_down;
  bool shared_gate;
};

// Weights of all experts as in the file.
struct Expert {
  RandomStack gate, up, down;
  Expert(DType gate_type, DType up_type, DType down_type, int64_t experts, int64_t width,
         int64_t hidden, uint32_t seed)
      : gate(gate_type, experts, hidden, width, seed),
        up(up_type, experts, hidden, width, seed + 1),
        down(down_type, experts, width, hidden, seed + 2) {}

  ExpertWeights in_parts(int parts) {
    return {gate.in_parts(parts), up.in_parts(parts), down.in_parts(parts)};
  }

  // One expert for one token, by the definition.
  std::vector<float> plain(int64_t expert, const float* x) const {
    const auto product = [&](const RandomStack& w, const float* input) {
      const auto row = activations_for(w.type(), input, w.k());
      std::vector<float> y;
      for (int64_t i = 0; i < w.n(); ++i) y.push_back(w.dot(expert, i, row.data()));
      return y;
    };
    std::vector<float> hidden = product(gate, x);
    const std::vector<float> factor = product(up, x);
    cpu::tables()[0].silu_mul(hidden.data(), factor.data(), hidden.data(), gate.n());
    return product(down, hidden.data());
  }
};

// What the model's residual stream becomes.
std::vector<float> plain(const Expert& routed, const Expert* shared, const ExpertStep& step,
                         int64_t width, std::vector<float> residual) {
  const cpu::Table& generic = cpu::tables()[0];
  for (int64_t t = 0; t < step.tokens; ++t) {
    const float* x = step.x + t * width;
    std::vector<float> sum(static_cast<size_t>(width), 0.0F);
    for (int rank = 0; rank < kUsed; ++rank) {
      if (step.ids[t * kUsed + rank] < 0) continue;
      const std::vector<float> y = routed.plain(step.ids[t * kUsed + rank], x);
      generic.multiply_add(y.data(), step.weights[t * kUsed + rank], sum.data(), width);
    }
    if (shared != nullptr) {
      std::vector<float> y = shared->plain(0, x);
      if (step.shared_gate != nullptr) {
        float gate = step.shared_gate[t];
        generic.sigmoid(&gate, 1);
        for (float& v : y) v *= gate;
      }
      generic.add(sum.data(), y.data(), sum.data(), width);
    }
    float* row = residual.data() + t * width;
    generic.add(row, sum.data(), row, width);
  }
  return residual;
}

class Experts : public ::testing::TestWithParam<Case> {};

// Which pairs have an expert that the GPU computes, and reach the CPU as ~id.
enum class Hot : uint8_t { kNone, kSome, kAll };

void mark_hot(Hot hot, std::vector<int32_t>& ids) {
  for (int32_t& id : ids) {
    if (hot == Hot::kAll || (hot == Hot::kSome && id % 2 == 0)) id = ~id;
  }
}

void expect_plain_evaluation(const Case& c, Hot hot);

TEST_P(Experts, EqualPlainEvaluation) { expect_plain_evaluation(GetParam(), Hot::kNone); }
TEST_P(Experts, LeaveOutHotOnes) { expect_plain_evaluation(GetParam(), Hot::kSome); }
TEST_P(Experts, MayAllBeHot) { expect_plain_evaluation(GetParam(), Hot::kAll); }

void expect_plain_evaluation(const Case& c, Hot hot) {
  Expert routed(c.gate, c.up, c.down, kExperts, c.width, c.hidden, 1);
  std::unique_ptr<Expert> shared;
  if (c.shared_hidden > 0) {
    shared = std::make_unique<Expert>(c.shared, c.shared, c.shared_down, 1, c.width,
                                      c.shared_hidden, 10);
  }
  for (const int64_t tokens : {1, 9, 40}) {
    const auto x = random_floats(tokens * c.width, 0.05F, 20);
    const auto weights = random_floats(tokens * kUsed, 1.0F, 21);
    const auto gate = random_floats(tokens, 1.0F, 22);
    const auto before = random_floats(tokens * c.width, 1.0F, 23);
    std::vector<int32_t> ids;  // the first expert serves every token of the larger steps
    for (int64_t t = 0; t < tokens; ++t) {
      for (int rank = 0; rank < kUsed; ++rank) {
        ids.push_back(rank == 0 && tokens > 8
                          ? 0
                          : static_cast<int32_t>(1 + (t * 2 + rank * 5) % (kExperts - 1)));
      }
    }
    mark_hot(hot, ids);
    ExpertStep step = {.x = x.data(),
                       .ids = ids.data(),
                       .weights = weights.data(),
                       .shared_gate = c.shared_gate ? gate.data() : nullptr,
                       .tokens = tokens,
                       .used = kUsed,
                       .residual = nullptr};
    const auto expected = plain(routed, shared.get(), step, c.width, before);
    for (const auto& [threads, parts] :
         {std::pair{1, 1}, std::pair{3, 1}, std::pair{4, 2}, std::pair{2, 3}}) {
      ExpertLayer layer{.routed = routed.in_parts(parts), .shared = {}};
      if (shared) layer.shared = shared->in_parts(1);
      platform::ThreadPool pool({.threads = threads, .pin = false});
      ops::Workspace workspace(experts_workspace_bytes(layer, tokens, kUsed, threads));
      ops::Context ctx{pool, cpu::select(), workspace};
      Grouping grouping;
      grouping.reserve(tokens, kExperts, kUsed);
      std::vector<float> residual = before;
      step.residual = residual.data();
      run_experts(ctx, layer, grouping, step);
      EXPECT_EQ(std::memcmp(residual.data(), expected.data(), expected.size() * sizeof(float)), 0)
          << tokens << " tokens, " << threads << " threads, " << parts << " parts";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Types, Experts,
    ::testing::Values(Case{"Q4KWithQ6K", DType::kQ4_K, DType::kQ4_K, DType::kQ6_K, 256, 256, 256,
                           DType::kQ4_K, DType::kQ6_K, false},
                      Case{"Q4KWithQ5_0", DType::kQ4_K, DType::kQ4_K, DType::kQ5_0, 256, 96, 160,
                           DType::kQ4_K, DType::kQ8_0, true},
                      Case{"Q8_0", DType::kQ8_0, DType::kQ8_0, DType::kQ8_0, 288, 64, 0,
                           DType::kQ8_0, DType::kQ8_0, false},
                      Case{"EveryMatrixAnotherFormat", DType::kQ4_K, DType::kQ8_0, DType::kF32, 256,
                           40, 32, DType::kBF16, DType::kQ4_1, true},
                      // Rows of 4096 floats: a block has 32 tokens.
                      Case{"BlocksOfTokens", DType::kF16, DType::kBF16, DType::kQ8_0, 4096, 32, 32,
                           DType::kBF16, DType::kQ8_0, false},
                      Case{"Codebooks", DType::kIQ2_XS, DType::kIQ3_S, DType::kIQ4_NL, 256, 64, 0,
                           DType::kF32, DType::kF32, false}),
    [](const auto& test) { return test.param.name; });

TEST(Grouping, EverySlotHasItsTokenInOrder) {
  Grouping grouping;
  grouping.reserve(4, 5, 2);
  const std::vector<int32_t> ids = {4, 1, 1, 0, 4, 0, 1, 4};
  grouping.assign(ids.data(), 4, 5, 2);
  EXPECT_EQ(grouping.active, (std::vector<int32_t>{0, 1, 4}));
  EXPECT_EQ(grouping.first_slot, (std::vector<int32_t>{0, 2, 5, 5, 5, 8}));
  EXPECT_EQ(grouping.slot_token, (std::vector<int32_t>{1, 2, 0, 1, 3, 0, 2, 3}));
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(grouping.slot_token[static_cast<size_t>(grouping.slot_of[i])],
              static_cast<int32_t>(i / 2));
  }
}

TEST(Grouping, LargeStepsBeginWithTheExpertsOfMostTokens) {
  Grouping grouping;
  grouping.reserve(9, 5, 1);
  const std::vector<int32_t> ids = {2, 4, 4, 0, 4, 3, 3, 2, 4};
  grouping.assign(ids.data(), 9, 5, 1);
  EXPECT_EQ(grouping.active, (std::vector<int32_t>{4, 2, 3, 0}));
  EXPECT_EQ(grouping.tokens_of(4), 4);
  EXPECT_EQ(grouping.tokens_of(1), 0);
}

}  // namespace
}  // namespace tandem::moe
