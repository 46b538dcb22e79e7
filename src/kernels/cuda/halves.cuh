// The 16-bit float types of the cache, in pairs.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/kv_cache.h"

namespace tandem::cuda {

inline constexpr int kHalfBytes = 2;

struct F16 {
  using Pair = __half2;
  static __device__ Pair round(float2 x) { return __float22half2_rn(x); }
  static __device__ float2 widen(Pair x) { return __half22float2(x); }
};
struct BF16 {
  using Pair = __nv_bfloat162;
  static __device__ Pair round(float2 x) { return __float22bfloat162_rn(x); }
  static __device__ float2 widen(Pair x) { return __bfloat1622float2(x); }
};

// Calls body with the type that the cache is made of.
template <typename Body>
void with_type(CacheType type, const Body& body) {
  if (type == CacheType::kF16) {
    body(F16{});
  } else {
    body(BF16{});
  }
}

}  // namespace tandem::cuda
