// Top-k routing: gate function, selection within the best groups, weights from the unbiased
// probabilities.
#include "moe/routing.h"

#include <algorithm>
#include <limits>

namespace tandem::moe {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int kMaxExperts = 1024;
// Smallest normal half: keeps the normalisation finite, as the models' reference code does.
constexpr float kSmallestSum = 6.103515625e-5F;

// The largest of scores[0, n), the lowest index among equals; NaN never wins.
int best_of(const float* scores, int n) {
  int best = 0;
  for (int i = 1; i < n; ++i) {
    if (scores[i] > scores[best] || scores[best] != scores[best]) best = i;
  }
  return best;
}

float sum_of_two_largest(const float* scores, int n) {
  float first = kMinusInfinity, second = kMinusInfinity;
  for (int i = 0; i < n; ++i) {
    if (scores[i] > first) {
      second = first;
      first = scores[i];
    } else if (scores[i] > second) {
      second = scores[i];
    }
  }
  return first + second;
}

// Takes the experts of all but the best groups out of the selection.
void keep_best_groups(const RoutingConfig& config, float* scores) {
  const int size = config.experts / config.groups;
  float group_scores[kMaxExperts];
  bool keep[kMaxExperts] = {};
  for (int g = 0; g < config.groups; ++g) {
    group_scores[g] = sum_of_two_largest(scores + g * size, size);
  }
  for (int i = 0; i < config.groups_used; ++i) {
    const int g = best_of(group_scores, config.groups);
    keep[g] = true;
    group_scores[g] = kMinusInfinity;
  }
  for (int g = 0; g < config.groups; ++g) {
    if (!keep[g]) std::fill_n(scores + g * size, size, kMinusInfinity);
  }
}

void route_token(const ops::Context& ctx, const RoutingConfig& config, float* probabilities,
                 int32_t* ids, float* weights) {
  const int experts = config.experts;
  if (config.gating == Gating::kSoftmax) ctx.cpu.softmax(probabilities, experts);
  if (config.gating == Gating::kSigmoid) ctx.cpu.sigmoid(probabilities, experts);

  float scores[kMaxExperts];
  std::copy_n(probabilities, experts, scores);
  if (config.selection_bias != nullptr) {
    for (int e = 0; e < experts; ++e) scores[e] += config.selection_bias[e];
  }
  if (config.groups > config.groups_used) keep_best_groups(config, scores);

  for (int i = 0; i < config.used; ++i) {
    ids[i] = best_of(scores, experts);
    weights[i] = probabilities[ids[i]];
    scores[ids[i]] = kMinusInfinity;
  }
  if (config.gating == Gating::kSoftmaxOfChosen) ctx.cpu.softmax(weights, config.used);
  if (config.normalise) {
    float sum = 0.0F;
    for (int i = 0; i < config.used; ++i) sum += weights[i];
    sum = std::max(sum, kSmallestSum);
    for (int i = 0; i < config.used; ++i) weights[i] /= sum;
  }
  for (int i = 0; i < config.used; ++i) weights[i] *= config.scale;
}

}  // namespace

void route(ops::Context& ctx, const RoutingConfig& config, float* logits, int64_t tokens,
           int32_t* ids, float* weights) {
  const ops::Profile::Scope timed(ctx.profile, ops::Op::kRoute);
  TANDEM_CHECK(config.experts <= kMaxExperts && config.used <= config.experts, "{} of {} experts",
               config.used, config.experts);
  ctx.pool.parallel_for(tokens, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      route_token(ctx, config, logits + t * config.experts, ids + t * config.used,
                  weights + t * config.used);
    }
  });
}

}  // namespace tandem::moe
