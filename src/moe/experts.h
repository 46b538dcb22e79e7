// The routed experts of a layer on the CPU: group tokens by expert, so that tokens that meet in an
// expert share one read of its weights, multiply, and add each token's experts up in its own top-k
// order.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "ops/context.h"

namespace tandem::moe {

struct ExpertWeights {
  Tensor gate;  // [E, F, M]
  Tensor up;    // [E, F, M]
  Tensor down;  // [E, M, F]

  int64_t bytes_per_expert() const;
};

// Which (token, rank) pairs each expert serves. Slots are numbered expert by expert, tokens
// ascending within one.
struct Grouping {
  std::vector<int32_t> first_slot;  // [E + 1]
  std::vector<int32_t> slot_token;  // [T * K] token of a slot
  std::vector<int32_t> slot_of;     // [T, K] slot of a token's rank
  std::vector<int32_t> active;      // experts with slots, ascending

  void reserve(int64_t tokens, int experts, int used);
  // ids: [T, K] experts of each token.
  void assign(const int32_t* ids, int64_t tokens, int experts, int used);
};

// y[t] = sum over ranks of weights[t, rank] * expert(ids[t, rank])(x[t]). x, y: [T, M] f32; ids,
// weights: [T, K].
void run_experts(ops::Context& ctx, const ExpertWeights& experts, Grouping& grouping,
                 const float* x, const int32_t* ids, const float* weights, int64_t tokens, int used,
                 float* y);
size_t experts_workspace_bytes(const ExpertWeights& experts, int64_t tokens, int used);

}  // namespace tandem::moe
