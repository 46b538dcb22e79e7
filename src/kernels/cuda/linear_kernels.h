// The product kernels by number of tokens and kind of result, each compiled in a file of its own
// for all types with panels. Parameters are checked by the callers (linear.cc).
#pragma once

#include "kernels/cuda/linear.h"

namespace tandem::cuda {

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
