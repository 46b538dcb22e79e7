// Sampling: each stage against a plain double-precision evaluation, the draw's distribution, and
// hostile logits.
#include "ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(int n, uint32_t seed, float scale = 3.0F) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> logits(static_cast<size_t>(n));
  for (float& v : logits) v = normal(generator);
  return logits;
}

int32_t draw(const std::vector<float>& logits, const SampleParams& params) {
  SampleScratch scratch(static_cast<int32_t>(logits.size()));
  return sample(logits.data(), static_cast<int32_t>(logits.size()), params, scratch).token;
}

// The probabilities that temperature, top-k, top-p and min-p leave.
std::vector<double> expected_distribution(const std::vector<float>& logits, const SampleParams& p) {
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  if (p.top_k > 0) order.resize(std::min<size_t>(order.size(), static_cast<size_t>(p.top_k)));
  const double highest = logits[order[0]];
  const auto weight = [&](int i) { return std::exp((logits[i] - highest) / p.temperature); };
  if (p.min_p > 0) std::erase_if(order, [&](int i) { return weight(i) < p.min_p; });
  double total = 0.0;
  for (const int i : order) total += weight(i);
  double held = 0.0;
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || held < p.top_p * total))
    held += weight(order[kept++]);
  std::vector<double> probabilities(logits.size());
  for (size_t i = 0; i < kept; ++i) probabilities[order[i]] = weight(order[i]) / held;
  return probabilities;
}

TEST(Sample, DrawsFollowTheDistribution) {
  const std::vector<SampleParams> kinds = {
      {.temperature = 1.0F},
      {.temperature = 0.7F, .top_k = 5},
      {.temperature = 1.5F, .top_p = 0.8F},
      {.temperature = 1.0F, .min_p = 0.1F},
      {.temperature = 0.9F, .top_k = 12, .top_p = 0.9F, .min_p = 0.02F},
  };
  const std::vector<float> logits = random_logits(30, 1, 1.5F);
  for (SampleParams params : kinds) {
    const std::vector<double> expected = expected_distribution(logits, params);
    constexpr int kDraws = 20000;
    std::vector<int> counts(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      params.seed = 7;
      params.position = i;
      ++counts[static_cast<size_t>(draw(logits, params))];
    }
    double chi_square = 0.0;
    int cells = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (expected[i] == 0.0) {
        EXPECT_EQ(counts[i], 0) << i;
      } else if (expected[i] * kDraws >= 5.0) {
        const double difference = counts[i] - expected[i] * kDraws;
        chi_square += difference * difference / (expected[i] * kDraws);
        ++cells;
      }
    }
    // Mean cells - 1, deviation sqrt(2 (cells - 1)): five deviations off happens by no chance.
    EXPECT_LT(chi_square, cells + 5.0 * std::sqrt(2.0 * cells));
  }
}

TEST(Sample, GreedyTakesTheLowestOfTheBest) {
  EXPECT_EQ(draw({1.0F, 3.0F, 3.0F, 2.0F}, {.temperature = 0.0F}), 1);
  EXPECT_EQ(draw({5.0F}, {.temperature = 0.0F}), 0);
}

TEST(Sample, EqualSeedAndPositionGiveTheEqualToken) {
  const std::vector<float> logits = random_logits(1000, 2);
  bool differs = false;
  for (int position = 0; position < 50; ++position) {
    const SampleParams params{.temperature = 1.0F, .seed = 42, .position = position};
    const int32_t token = draw(logits, params);
    EXPECT_EQ(token, draw(logits, params));
    SampleParams other = params;
    other.seed = 43;
    differs |= draw(logits, other) != token;
  }
  EXPECT_TRUE(differs);
}

// Draws fall evenly over the cumulative weight, also where it is made of many small parts.
TEST(Sample, DrawsFallEvenlyOverALongTail) {
  const int vocab = 8000;
  std::vector<float> logits = random_logits(vocab, 7, 0.5F);
  std::vector<int> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  std::vector<double> passed;
  double total = 0.0;
  for (const int i : order) passed.push_back(total += std::exp(logits[i] - logits[order[0]]));
  // Of evenly distributed values the mean is 1/2, with a deviation of 1 / sqrt(12 n).
  double mean = 0.0;
  const int draws = 200;
  for (int position = 0; position < draws; ++position) {
    const int32_t token = draw(logits, {.temperature = 1.0F, .seed = 3, .position = position});
    const auto rank = std::find(order.begin(), order.end(), token) - order.begin();
    mean += passed[static_cast<size_t>(rank)] / total / draws;
  }
  EXPECT_NEAR(mean, 0.5, 4.0 / std::sqrt(12.0 * draws));
}

TEST(Sample, BiasAndBans) {
  const std::vector<float> logits = {1.0F, 2.0F, 3.0F};
  const LogitBias raise[] = {{0, 5.0F}};
  EXPECT_EQ(draw(logits, {.temperature = 0.0F, .logit_bias = raise}), 0);
  const LogitBias ban[] = {{2, -kInfinity}, {77, 1.0F}, {-1, 1.0F}};
  EXPECT_EQ(draw(logits, {.temperature = 0.0F, .logit_bias = ban}), 1);
  const int32_t banned[] = {2, 1, 99};
  EXPECT_EQ(draw(logits, {.temperature = 0.0F, .banned = banned}), 0);
  const int32_t all[] = {0, 1, 2};
  const int32_t token = draw(logits, {.temperature = 1.0F, .banned = all});
  EXPECT_GE(token, 0);
  EXPECT_LT(token, 3);
}

TEST(Sample, PenaltiesByOccurrence) {
  // Prompt 0, output 1 1 2.
  const int32_t history[] = {0, 1, 1, 2};
  const std::vector<float> logits = {4.0F, 4.0F, 4.0F, 3.5F};
  // Repetition counts prompt and output: all but token 3 are halved.
  EXPECT_EQ(draw(logits, {.temperature = 0.0F,
                          .repetition_penalty = 2.0F,
                          .history = history,
                          .prompt_tokens = 1}),
            3);
  // Frequency and presence count the output only: token 0 stays best.
  EXPECT_EQ(
      draw(
          logits,
          {.temperature = 0.0F, .frequency_penalty = 0.3F, .history = history, .prompt_tokens = 1}),
      0);
  const std::vector<float> second = {1.0F, 4.0F, 3.9F, 3.0F};
  // Token 1: 4 - 2 * 0.2 = 3.6, token 2: 3.9 - 0.2 = 3.7.
  EXPECT_EQ(
      draw(
          second,
          {.temperature = 0.0F, .frequency_penalty = 0.2F, .history = history, .prompt_tokens = 1}),
      2);
  EXPECT_EQ(
      draw(second,
           {.temperature = 0.0F, .presence_penalty = 1.5F, .history = history, .prompt_tokens = 1}),
      3);
  // A negative logit moves away from zero.
  EXPECT_EQ(draw({-1.0F, -1.5F}, {.temperature = 0.0F,
                                  .repetition_penalty = 2.0F,
                                  .history = std::span(history).first(1),
                                  .prompt_tokens = 1}),
            1);
}

TEST(Sample, LogprobsAreThoseAfterBiasBeforePenalties) {
  const std::vector<float> logits = random_logits(500, 3);
  const int32_t history[] = {1, 2, 3};
  SampleScratch scratch(500);
  const SampleParams params{.temperature = 0.5F,
                            .repetition_penalty = 1.3F,
                            .seed = 1,
                            .top_logprobs = 20,
                            .history = history,
                            .prompt_tokens = 1};
  const SampleResult result = sample(logits.data(), 500, params, scratch);
  double total = 0.0;
  for (const float v : logits) total += std::exp(static_cast<double>(v));
  const auto truth = [&](int32_t token) {
    return logits[static_cast<size_t>(token)] - std::log(total);
  };
  EXPECT_NEAR(result.logprob, truth(result.token), 2e-5);
  ASSERT_EQ(result.top.size(), 20U);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_NEAR(result.top[i].logprob, truth(result.top[i].token), 2e-5);
    if (i > 0) {
      EXPECT_LE(result.top[i].logprob, result.top[i - 1].logprob);
    }
  }
}

TEST(Sample, HostileLogitsAreSurvived) {
  const float nan = std::nanf("");
  const std::vector<std::vector<float>> cases = {
      {nan, nan, nan}, {-kInfinity, -kInfinity}, {kInfinity, 1.0F, kInfinity},
      {nan, 1.0F},     {3e38F, -3e38F},          {0.0F}};
  for (const auto& logits : cases) {
    for (const float temperature : {0.0F, 1e-6F, 1.0F, 1e6F}) {
      for (const int top : {-1, 5}) {
        const int32_t token =
            draw(logits,
                 {.temperature = temperature, .top_p = 0.5F, .min_p = 0.1F, .top_logprobs = top});
        EXPECT_GE(token, 0);
        EXPECT_LT(token, static_cast<int32_t>(logits.size()));
      }
    }
  }
  EXPECT_EQ(draw({nan, 1.0F}, {.temperature = 0.0F}), 1);
  EXPECT_EQ(draw({1.0F, 2.0F}, {.temperature = 1.0F, .top_p = 0.0F}), 1);
  EXPECT_EQ(draw({1.0F, 2.0F}, {.temperature = 1.0F, .min_p = 1.0F}), 1);
}

}  // namespace
}  // namespace tandem::ops
