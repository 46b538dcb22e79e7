// exp, log and order keys on the device with the CPU's operations in the CPU's order
// (base/portable_math.h, kernels/cpu/lanes/math.inl.h). Compile with --fmad=false.
#pragma once

#include <cstdint>

namespace tandem::cuda {

inline __device__ float minus_infinity() { return __uint_as_float(0xff800000U); }

// portable_exp: 0 below -87.3 and for NaN, saturating at exp(88.37).
inline __device__ float exact_exp(float x) {
  if (!(x >= -87.33654F)) return 0.0F;
  x = x > 88.37626F ? 88.37626F : x;
  const float shifted = fmaf(x, 1.44269504F, 12582912.0F);  // rounds to an integer in the low bits
  const float n = shifted - 12582912.0F;
  float r = fmaf(n, -0.693359375F, x);
  r = fmaf(n, 2.12194440e-4F, r);
  float p = 1.9875691500e-4F;
  p = fmaf(p, r, 1.3981999507e-3F);
  p = fmaf(p, r, 8.3334519073e-3F);
  p = fmaf(p, r, 4.1665795894e-2F);
  p = fmaf(p, r, 1.6666665459e-1F);
  p = fmaf(p, r, 5.0000001201e-1F);
  p = fmaf(p, r * r, r + 1.0F);
  return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}

// portable_log: positive normal x; minus infinity for 0 and below.
inline __device__ float exact_log(float x) {
  if (!(x > 0.0F)) return minus_infinity();
  const uint32_t bits = __float_as_uint(x);
  int exponent = static_cast<int>(bits >> 23) - 126;
  float m = __uint_as_float((bits & 0x007fffffU) | 0x3f000000U);  // [0.5, 1)
  if (m < 0.70710678F) {
    --exponent;
    m = m + m;
  }
  m -= 1.0F;
  const float z = m * m;
  float p = 7.0376836292e-2F;
  p = fmaf(p, m, -1.1514610310e-1F);
  p = fmaf(p, m, 1.1676998740e-1F);
  p = fmaf(p, m, -1.2420140846e-1F);
  p = fmaf(p, m, 1.4249322787e-1F);
  p = fmaf(p, m, -1.6668057665e-1F);
  p = fmaf(p, m, 2.0000714765e-1F);
  p = fmaf(p, m, -2.4999993993e-1F);
  p = fmaf(p, m, 3.3333331174e-1F);
  const float e = static_cast<float>(exponent);
  float y = m * z * p;
  y = fmaf(e, -2.12194440e-4F, y);
  y = fmaf(-0.5F, z, y);
  return fmaf(e, 0.693359375F, m + y);
}

inline __device__ float exact_sigmoid(float x) {
  const float e = exact_exp(0.0F - x);
  return 1.0F / (1.0F + e);
}

// Larger keys for larger values; both zeros are equal, NaN is minus infinity.
inline __device__ uint32_t order_key(float x) {
  if (x != x) x = minus_infinity();
  const uint32_t bits = __float_as_uint(x + 0.0F);  // -0 + 0 = +0
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
inline __device__ float from_order_key(uint32_t key) {
  return __uint_as_float((key & 0x80000000U) != 0 ? key & 0x7fffffffU : ~key);
}

// Orders (value, index) pairs: the larger value first, then the lower index.
inline __device__ uint64_t order_pair(float value, uint32_t index) {
  return (static_cast<uint64_t>(order_key(value)) << 32) | ~index;
}
inline __device__ uint32_t index_of_pair(uint64_t pair) { return ~static_cast<uint32_t>(pair); }

// Two reductions of 32 bits, which are one instruction each.
inline __device__ uint64_t warp_max(uint64_t value) {
  constexpr unsigned kAll = 0xffffffffU;
  const auto high = static_cast<uint32_t>(value >> 32);
  const uint32_t highest = __reduce_max_sync(kAll, high);
  const uint32_t lowest =
      __reduce_max_sync(kAll, high == highest ? static_cast<uint32_t>(value) : 0U);
  return uint64_t{highest} << 32 | lowest;
}

}  // namespace tandem::cuda
