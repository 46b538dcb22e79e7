// Which experts a token goes to: every gate function of moe/routing.h, with the CPU's operations in
// the CPU's order, so equal logits give equal experts and weights, bit for bit.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// Values of the GGUF key expert_gating_func, as in moe::Gating.
enum class Gating : uint8_t { kSoftmax = 1, kSigmoid = 2, kSoftmaxOfChosen = 3 };

struct RouteParams {
  const float* logits;          // [T, E], not changed
  const float* selection_bias;  // [E] added for the selection only, or null
  int32_t* ids;                 // [T, K] best first; equal scores go to the lower expert
  float* weights;               // [T, K]
  int experts;                  // E, at most kMaxRoutedExperts
  int used;                     // K <= E
  Gating gating;
  bool normalise;
  float scale;
  int groups;  // equal groups, of which the groups_used best take part
  int groups_used;
  int tokens;
  // [T] as PrepareGqaParams has them, or null: a padding row goes to expert -1, which is none.
  const int32_t* slots = nullptr;
};
inline constexpr int kMaxRoutedExperts = 1024;
void route(const RouteParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
