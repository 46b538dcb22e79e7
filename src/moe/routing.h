// Which experts a token goes to, and with what weights.
#pragma once

#include <cstdint>

#include "ops/context.h"

namespace tandem::moe {

// Values of the GGUF key expert_gating_func.
enum class Gating : uint8_t { kSoftmax = 1, kSigmoid = 2, kSoftmaxOfChosen = 3 };

struct RoutingConfig {
  int experts = 0;  // E
  int used = 0;     // K
  Gating gating = Gating::kSoftmax;
  bool normalise = false;  // weights divided by their sum
  float scale = 1.0F;      // then multiplied by this
  int groups = 1;          // experts in equal groups, of which
  int groups_used = 1;     // the best by the sum of their two largest probabilities take part
  const float* selection_bias =
      nullptr;  // [E] added to probabilities for the selection only, or null
};

// logits: [T, E] f32, overwritten. ids, weights: [T, K], the best first; equal scores go to the
// lower expert.
void route(ops::Context& ctx, const RoutingConfig& config, float* logits, int64_t tokens,
           int32_t* ids, float* weights);

}  // namespace tandem::moe
