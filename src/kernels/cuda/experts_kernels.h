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

// Groups have 8 or kFewGroupTokens tokens for the kernels for few, which see to the grouping
// themselves, and many_tokens() for those for many, ahead of which group_tokens() runs.
inline constexpr int kFewGroupTokens = 16;
void experts_few(const ExpertsParams& params, const ExpertBuffers& buffers,
                 const GroupParams& grouping, cudaStream_t stream);
void experts_many(const ExpertsParams& params, const ExpertBuffers& buffers, cudaStream_t stream);

}  // namespace tandem::cuda
