// Groups the tokens of a step by expert on the device, and adds the experts' results up.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// `count` tokens of an expert, slots `first` and on (moe/grouping.h has the same numbering).
struct alignas(16) TokenGroup {
  int expert;
  int first;
  int count;
  int padding;
};

// Slots are numbered expert by expert, tokens ascending within one. Tokens of an expert fall into
// groups of `group_tokens`.
struct GroupParams {
  const int32_t* ids;  // [T, K]; not in [0, E): takes no part
  int tokens;          // T
  int used;            // K
  int experts;         // E
  int group_tokens;
  int32_t* slot_of;     // [T, K] -> slot, or -1
  int32_t* slot_token;  // [T * K] -> token
  TokenGroup* groups;   // [most_groups(...)]
  int32_t* group_count;
};
void group_tokens(const GroupParams& params, cudaStream_t stream);

int64_t most_groups(int tokens, int used, int experts, int group_tokens);

// residual[t] += sum over ranks of weights[t, rank] * results[slot_of[t, rank]], ranks in order.
struct ExpertSums {
  const float* results;    // [slots, M]
  const int32_t* slot_of;  // [T, K]
  const float* weights;    // [T, K]
  int tokens;
  int used;
  int width;        // M, a multiple of 4
  float* residual;  // [T, M]
};
void combine_experts(const ExpertSums& sums, cudaStream_t stream);

}  // namespace tandem::cuda
