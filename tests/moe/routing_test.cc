// Routing against a straightforward double-precision evaluation of the models' definitions.
#include "moe/routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace tandem::moe {
namespace {

class Routing : public ::testing::Test {
 protected:
  platform::ThreadPool pool_{{.threads = 2, .pin = false}};
  ops::Workspace workspace_{1 << 16};
  ops::Context ctx_{pool_, cpu::select(), workspace_};
};

std::vector<float> random_logits(int64_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

struct Choice {
  std::vector<int> ids;
  std::vector<double> weights;
};

Choice oracle(const RoutingConfig& c, const float* logits) {
  std::vector<double> p(logits, logits + c.experts);
  if (c.gating == Gating::kSoftmax) {
    double sum = 0.0;
    for (double& v : p) sum += v = std::exp(v);
    for (double& v : p) v /= sum;
  } else if (c.gating == Gating::kSigmoid) {
    for (double& v : p) v = 1.0 / (1.0 + std::exp(-v));
  }
  std::vector<double> score = p;
  if (c.selection_bias != nullptr) {
    for (int e = 0; e < c.experts; ++e) score[e] += c.selection_bias[e];
  }
  if (c.groups_used < c.groups) {
    const int size = c.experts / c.groups;
    std::vector<std::pair<double, int>> groups;
    for (int g = 0; g < c.groups; ++g) {
      std::vector<double> members(score.begin() + g * size, score.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      groups.push_back({-(members[0] + (size > 1 ? members[1] : 0.0)), g});
    }
    std::sort(groups.begin(), groups.end());
    for (int i = c.groups_used; i < c.groups; ++i) {
      for (int e = 0; e < size; ++e) score[groups[i].second * size + e] = -1e300;
    }
  }
  Choice choice;
  choice.ids.resize(c.experts);
  std::iota(choice.ids.begin(), choice.ids.end(), 0);
  std::stable_sort(choice.ids.begin(), choice.ids.end(),
                   [&](int a, int b) { return score[a] > score[b]; });
  choice.ids.resize(c.used);
  for (const int id : choice.ids) choice.weights.push_back(p[id]);
  if (c.gating == Gating::kSoftmaxOfChosen) {
    double sum = 0.0;
    for (double& w : choice.weights) sum += w = std::exp(w);
    for (double& w : choice.weights) w /= sum;
  }
  if (c.normalise) {
    const double sum = std::accumulate(choice.weights.begin(), choice.weights.end(), 0.0);
    for (double& w : choice.weights) w /= sum;
  }
  for (double& w : choice.weights) w *= c.scale;
  return choice;
}

TEST_F(Routing, MatchesTheDefinitionOfEachModelKind) {
  const std::vector<float> bias = random_logits(256, 99);
  const std::vector<RoutingConfig> kinds = {
      {.experts = 64, .used = 6},                      // DeepSeek-V2-Lite
      {.experts = 128, .used = 8, .normalise = true},  // Qwen3
      {.experts = 8, .used = 2, .normalise = true},    // Mixtral
      {.experts = 256,
       .used = 8,
       .gating = Gating::kSigmoid,
       .normalise = true,  // DeepSeek-V3
       .scale = 2.5F,
       .groups = 8,
       .groups_used = 4,
       .selection_bias = bias.data()},
      {.experts = 160, .used = 6, .scale = 16.0F, .groups = 8, .groups_used = 3},  // DeepSeek-V2
      {.experts = 32, .used = 4, .gating = Gating::kSoftmaxOfChosen},              // gpt-oss
      {.experts = 5, .used = 5, .normalise = true},
  };
  constexpr int64_t kTokens = 37;
  for (const RoutingConfig& config : kinds) {
    const std::vector<float> logits = random_logits(kTokens * config.experts, 5);
    std::vector<float> scratch = logits;
    std::vector<int32_t> ids(static_cast<size_t>(kTokens * config.used));
    std::vector<float> weights(ids.size());
    route(ctx_, config, scratch.data(), kTokens, ids.data(), weights.data());
    for (int64_t t = 0; t < kTokens; ++t) {
      const Choice expected = oracle(config, logits.data() + t * config.experts);
      for (int i = 0; i < config.used; ++i) {
        EXPECT_EQ(ids[t * config.used + i], expected.ids[i]);
        EXPECT_NEAR(weights[t * config.used + i], expected.weights[i],
                    1e-5 * std::abs(expected.weights[i]));
      }
    }
  }
}

TEST_F(Routing, EqualScoresGoToTheLowerExpert) {
  const RoutingConfig config{.experts = 16, .used = 3};
  std::vector<float> logits(16, 1.0F);
  int32_t ids[3];
  float weights[3];
  route(ctx_, config, logits.data(), 1, ids, weights);
  EXPECT_EQ(ids[0], 0);
  EXPECT_EQ(ids[1], 1);
  EXPECT_EQ(ids[2], 2);
}

TEST_F(Routing, NanLogitsStillNameValidExperts) {
  const RoutingConfig config{
      .experts = 16, .used = 4, .gating = Gating::kSigmoid, .groups = 4, .groups_used = 2};
  std::vector<float> logits(16, std::nanf(""));
  int32_t ids[4];
  float weights[4];
  route(ctx_, config, logits.data(), 1, ids, weights);
  for (const int32_t id : ids) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, 16);
  }
}

}  // namespace
}  // namespace tandem::moe
