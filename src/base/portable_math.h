// exp and log in float32 with a fixed order of operations: the same bits on every machine, unlike
// the C library's.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tandem {

// exp(x), error about 1 ulp; 0 below -87.3, saturating above 88.3. Cephes' expf coefficients.
inline float portable_exp(float x) {
  constexpr float kLowest = -87.33654F;
  if (!(x >= kLowest)) return 0.0F;  // NaN too
  x = x > 88.37626F ? 88.37626F : x;
  const float shifted =
      std::fma(x, 1.44269504F, 12582912.0F);  // rounds to an integer in the low bits
  const float n = shifted - 12582912.0F;
  float r = std::fma(n, -0.693359375F, x);
  r = std::fma(n, 2.12194440e-4F, r);
  float p = 1.9875691500e-4F;
  p = std::fma(p, r, 1.3981999507e-3F);
  p = std::fma(p, r, 8.3334519073e-3F);
  p = std::fma(p, r, 4.1665795894e-2F);
  p = std::fma(p, r, 1.6666665459e-1F);
  p = std::fma(p, r, 5.0000001201e-1F);
  p = std::fma(p, r * r, r + 1.0F);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) +
                              (std::bit_cast<uint32_t>(shifted) << 23));
}

// log(x) for positive normal x, error about 1 ulp; -infinity for 0 and below. Cephes' logf
// coefficients.
inline float portable_log(float x) {
  if (!(x > 0.0F)) return -std::numeric_limits<float>::infinity();
  const auto bits = std::bit_cast<uint32_t>(x);
  auto exponent = static_cast<int32_t>(bits >> 23) - 126;
  float m = std::bit_cast<float>((bits & 0x007fffffU) | 0x3f000000U);  // [0.5, 1)
  if (m < 0.70710678F) {
    --exponent;
    m = m + m;
  }
  m -= 1.0F;
  const float z = m * m;
  float p = 7.0376836292e-2F;
  p = std::fma(p, m, -1.1514610310e-1F);
  p = std::fma(p, m, 1.1676998740e-1F);
  p = std::fma(p, m, -1.2420140846e-1F);
  p = std::fma(p, m, 1.4249322787e-1F);
  p = std::fma(p, m, -1.6668057665e-1F);
  p = std::fma(p, m, 2.0000714765e-1F);
  p = std::fma(p, m, -2.4999993993e-1F);
  p = std::fma(p, m, 3.3333331174e-1F);
  const auto e = static_cast<float>(exponent);
  float y = m * z * p;
  y = std::fma(e, -2.12194440e-4F, y);
  y = std::fma(-0.5F, z, y);
  return std::fma(e, 0.693359375F, m + y);
}

}  // namespace tandem
