// Root mean square norm of float rows.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/experts_group.h"
#include "kernels/cuda/linear.h"

namespace tandem::cuda {

// y[r, i] = x[r, i] * weight[i] / sqrt(mean(x[r]^2) + epsilon); y may be x. With `addend` or
// `experts`, x += addend comes first, and the sum stays in x: the step between two halves of a
// layer.
//
// The mean is summed by a fixed tree over the row's threads, which depends on n and on the
// alignment alone; everything else is rounded as on the CPU.
struct RmsNormParams {
  Rows x;               // [R, n]
  ConstRows addend;     // [R, n], or null
  const float* weight;  // [n]
  Rows y;               // [R, n]
  int64_t n;            // at most 32768; 8192 where rows or weights are not aligned to 16 bytes
  int rows;             // R
  float epsilon;
  ProductRows rounded = {};  // [R, n] y for products too, where wanted; n a multiple of 32
  ExpertSums experts = {};   // what combine_experts() would add to x, rows n apart; or none
};
void rms_norm(const RmsNormParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
