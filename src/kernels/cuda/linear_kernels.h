// The product kernels by number of tokens and kind of result, each compiled in a file of its own
// for all types with panels. Parameters are checked by the callers (linear.cc).
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"

namespace tandem::cuda {

// What a block may have of shared memory on the smallest devices (compute capability 8.6, 8.9 and
// 12.0), and what the kernels for larger ones want. There are two sets of kernels, the small one
// with fewer copies under way.
inline constexpr int kSmallSharedBytes = 99 * 1024, kSharedBytes = 160 * 1024;
// bytes: of a block, 0 for what the device has.
inline bool wants_small(int bytes) {
  return (bytes > 0 ? bytes : most_shared_bytes()) < kSharedBytes;
}

// Tokens of a block of the kernels for many.
inline constexpr int many_tokens(bool small) { return small ? 64 : 128; }
// Tokens that a warp of the kernels for few takes at once; more read the weights again.
inline constexpr int kFewTokens = 32, kFewGatedTokens = 16;

// Matrices of one type.
void linear_few(const LinearParams& params, cudaStream_t stream);
void linear_many(const LinearParams& params, cudaStream_t stream);

void heads_few(const HeadsParams& params, cudaStream_t stream);
void heads_many(const HeadsParams& params, cudaStream_t stream);

void gated_few(const GatedParams& params, cudaStream_t stream);
void gated_many(const GatedParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
