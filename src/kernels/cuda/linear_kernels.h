// The product kernels by number of tokens and kind of result, each compiled in a file of its own
// for all types with panels. Parameters are checked by the callers (linear.cc).
#pragma once

#include "kernels/cuda/linear.h"

namespace tandem::cuda {

inline constexpr int kFewTokens = 32;       // that linear_few takes at most
inline constexpr int kFewGatedTokens = 16;  // that gated_few takes at most

// Matrices of one type.
void linear_few(const LinearParams& params, cudaStream_t stream);
void linear_many(const LinearParams& params, cudaStream_t stream);

void gated_few(const GatedParams& params, cudaStream_t stream);
void gated_many(const GatedParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
