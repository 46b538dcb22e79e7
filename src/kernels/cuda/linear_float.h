// Products with float weights, in float32 arithmetic.
#pragma once

#include "kernels/cuda/linear.h"

namespace tandem::cuda {

// matrices[i] of the parameters, whose type is F32, F16 or BF16; k a multiple of 8.
void linear_float(const LinearParams& params, int i, cudaStream_t stream);

}  // namespace tandem::cuda
