// Top-k routing: gate function, selection within the best groups, weights from the unbiased
// probabilities.
#include "moe/routing.h"

#include <algorithm>
#include <limits>

#include "ops/gpu.h"

namespace tandem::moe {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int kMaxExperts = 1024;
// Smallest normal half: keeps the normalisation finite, as the models' reference code does.
constexpr float kSmallestSum = 6.103515625e-5F;

// The `count` largest of scores[0, n), the largest first; equal ones go by their index, NaNs count
// as minus infinity. One pass with insertion: most scores fail against the last of the best so far.
void best_of(const float* scores, int n, int count, int32_t* best) {
  float values[kMaxExperts];
  int filled = 0;
  for (int i = 0; i < n; ++i) {
    const float score = scores[i] != scores[i] ? kMinusInfinity : scores[i];
    if (filled == count && !(score > values[count - 1])) continue;
    int at = filled < count ? filled++ : count - 1;
    for (; at > 0 && score > values[at - 1]; --at) {
      values[at] = values[at - 1];
      best[at] = best[at - 1];
    }
    values[at] = score;
    best[at] = i;
  }
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
  int32_t best[kMaxExperts];
  bool keep[kMaxExperts] = {};
  for (int g = 0; g < config.groups; ++g) {
    group_scores[g] = sum_of_two_largest(scores + g * size, size);
  }
  best_of(group_scores, config.groups, config.groups_used, best);
  for (int i = 0; i < config.groups_used; ++i) keep[best[i]] = true;
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

  best_of(scores, experts, config.used, ids);
  for (int i = 0; i < config.used; ++i) weights[i] = probabilities[ids[i]];
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
  if (ctx.gpu != nullptr) {
    return ctx.gpu->route({.logits = logits,
                           .selection_bias = config.selection_bias,
                           .ids = ids,
                           .weights = weights,
                           .experts = config.experts,
                           .used = config.used,
                           .gating = static_cast<uint8_t>(config.gating),
                           .normalise = config.normalise,
                           .scale = config.scale,
                           .groups = config.groups,
                           .groups_used = config.groups_used,
                           .tokens = tokens});
  }
  // About 2 ns for each expert; a parallel loop costs some 2 us.
  const int64_t tokens_per_piece = std::max(1, 1024 / config.experts);
  ctx.pool.parallel_for(tokens, tokens_per_piece, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      route_token(ctx, config, logits + t * config.experts, ids + t * config.used,
                  weights + t * config.used);
    }
  });
}

}  // namespace tandem::moe
