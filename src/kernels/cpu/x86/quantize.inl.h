// Floats -> integer activations. What is not a number in range becomes the lowest value, as the
// scalar definition has it: the conversion gives the smallest int32, which saturates on the way
// down.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include "quant/activation.h"

namespace tandem::cpu::x86 {

static inline float max_magnitude(const float* x, int n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 m = _mm256_setzero_ps();
  for (int i = 0; i < n; i += 8) {
    m = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), magnitude), m);  // a NaN loses
  }
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

// 8 floats, scaled and rounded to nearest even.
static inline __m256i round8(const float* x, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
}

// 16 floats -> 16 int16 in order, none below `lowest`.
static inline __m256i quantize16(const float* x, __m256 inverse, int lowest) {
  const __m256i packed = _mm256_packs_epi32(round8(x, inverse), round8(x + 8, inverse));
  // The pack works within 128-bit halves.
  const __m256i ordered = _mm256_permute4x64_epi64(packed, 0xd8);
  return _mm256_max_epi16(ordered, _mm256_set1_epi16(static_cast<short>(lowest)));
}

// 2 x 16 int16 that fit a byte -> 32 int8 in order.
static inline __m256i narrow(__m256i first, __m256i second) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0xd8);
}

static inline float inverse_scale(float m, float highest) {
  return m < quant::kSmallestMaximum ? 0.0F : highest / m;
}

template <typename Isa>
static void quantize_a32(const float* x, std::byte* out, int64_t k) {
  constexpr int kHighest = 16256;
  const auto row = quant::a32_row(out, k);
  for (int64_t block = 0; block < k / 32; ++block) {
    const float* source = x + 32 * block;
    const float m = max_magnitude(source, 32);
    const __m256 inverse = _mm256_set1_ps(inverse_scale(m, kHighest));
    row.d[block] = m / kHighest;
    const __m256i q[2] = {quantize16(source, inverse, -kHighest),
                          quantize16(source + 16, inverse, -kHighest)};
    __m256i hi[2], lo[2];
    for (int j = 0; j < 2; ++j) {
      hi[j] = _mm256_srai_epi16(_mm256_add_epi16(q[j], _mm256_set1_epi16(64)), 7);
      lo[j] = _mm256_sub_epi16(q[j], _mm256_slli_epi16(hi[j], 7));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row.hi + 32 * block), narrow(hi[0], hi[1]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(row.lo + 32 * block), narrow(lo[0], lo[1]));
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i pairs =
        _mm256_add_epi32(_mm256_madd_epi16(q[0], one), _mm256_madd_epi16(q[1], one));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    row.sum[block] = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
  }
}

template <typename Isa>
static void quantize_a256(const float* x, std::byte* out, int64_t k) {
  const auto row = quant::a256_row(out, k);
  for (int64_t block = 0; block < k / 256; ++block) {
    const float* source = x + 256 * block;
    const float m = max_magnitude(source, 256);
    const __m256 inverse = _mm256_set1_ps(inverse_scale(m, 127.0F));
    row.d[block] = m / 127.0F;
    int16_t* sums = row.sums + quant::kA256Sums * block;
    for (int j = 0; j < 8; ++j) {
      const float* group = source + 32 * j;
      const __m256i q =
          narrow(quantize16(group, inverse, -127), quantize16(group + 16, inverse, -127));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(row.q + 256 * block + 32 * j), q);
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
      const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
      const __m256i eights = _mm256_add_epi32(fours, _mm256_shuffle_epi32(fours, 0x4e));
      const __m256i sixteens = _mm256_add_epi32(eights, _mm256_shuffle_epi32(eights, 0xb1));
      const int first = _mm256_extract_epi32(sixteens, 0);
      const int second = _mm256_extract_epi32(sixteens, 4);
      sums[quant::sum_position(2 * j)] = static_cast<int16_t>(first);
      sums[quant::sum_position(2 * j + 1)] = static_cast<int16_t>(second);
      sums[16 + quant::sum_position(j)] = static_cast<int16_t>(first + second);
    }
  }
}

}  // namespace tandem::cpu::x86
