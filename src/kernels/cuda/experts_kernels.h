// The expert products by number of tokens in a group, each compiled in a file of its own.
#pragma once

#include "kernels/cuda/experts.h"
#include "kernels/cuda/experts_group.h"
#include "kernels/cuda/linear_kernels.h"

namespace tandem::cuda {

// The parts of the workspace.
struct ExpertBuffers {
  int32_t* slot_of;      // [T, K]
  int32_t* slot_token;   // [T * K]
  int32_t* group_count;  // [1]
  TokenGroup* groups;    // [groups]
  __nv_bfloat16* gated;  // [T * K, F]
  float* results;        // [T * K, M]
  int64_t most_groups;
};

// group_tokens: 8 or kFewGroupTokens; more for the kernels for many, many_tokens().
inline constexpr int kFewGroupTokens = 16;
void experts_few(const ExpertsParams& params, const ExpertBuffers& buffers, int group_tokens,
                 cudaStream_t stream);
void experts_many(const ExpertsParams& params, const ExpertBuffers& buffers, cudaStream_t stream);

}  // namespace tandem::cuda
