// Stores into rows of activations that products read (linear.h).
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "kernels/cuda/linear.h"

namespace tandem::cuda {

__device__ inline void store_pair(__nv_bfloat16* row, int64_t column, float first, float second) {
  *reinterpret_cast<__nv_bfloat162*>(row + product_place(column)) =
      __floats2bfloat162_rn(first, second);
}
// column: a multiple of 4
__device__ inline void store_four(__nv_bfloat16* row, int64_t column, float4 v) {
  const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y),
                                   __floats2bfloat162_rn(v.z, v.w)};
  uint2 raw;
  memcpy(&raw, pairs, sizeof raw);
  *reinterpret_cast<uint2*>(row + product_place(column)) = raw;
}

}  // namespace tandem::cuda
