// Sixteen lanes of 32 bits as two AVX2 registers; equals generic/ints16.h bit for bit. Tag says how
// pairs are multiplied, and keeps what AVX2 and AVX-VNNI compile apart.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "kernels/cpu/avx2/vec16.h"

namespace tandem::cpu::avx2 {

template <typename Tag>
struct BasicInts16 {
  using Ints16 = BasicInts16;
  using Vec16 = BasicVec16<Tag>;

  __m256i lo, hi;

  static Ints16 zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Ints16 load(const void* p) {
    const auto* halves = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
  }
  static Ints16 broadcast_pair(const void* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return {_mm256_set1_epi32(pair), _mm256_set1_epi32(pair)};
  }
  void store(void* p) const {
    auto* halves = static_cast<__m256i*>(p);
    _mm256_storeu_si256(halves, lo);
    _mm256_storeu_si256(halves + 1, hi);
  }
  void store_narrow(void* p) const {
    // packs works within 128-bit halves: put its quadwords back in order 0 2 1 3.
    _mm256_storeu_si256(static_cast<__m256i*>(p),
                        _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8));
  }

  static Ints16 multiply_pairs(Ints16 sum, Ints16 a, Ints16 b) {
    return {Tag::multiply_pairs(sum.lo, a.lo, b.lo), Tag::multiply_pairs(sum.hi, a.hi, b.hi)};
  }
  static Ints16 pair(Ints16 first, Ints16 second) {
    const auto join = [](__m256i a, __m256i b) {
      return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
    };
    return {join(first.lo, second.lo), join(first.hi, second.hi)};
  }
  static Ints16 load_pairs(const void* first, const void* second) {
    const __m256i a = _mm256_loadu_si256(static_cast<const __m256i*>(first));
    const __m256i b = _mm256_loadu_si256(static_cast<const __m256i*>(second));
    const __m256i even = _mm256_unpacklo_epi16(a, b), odd = _mm256_unpackhi_epi16(a, b);
    return {_mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31)};
  }

  static Ints16 round(Vec16 x) { return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)}; }
  Vec16 floats() const { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
};

using Ints16 = BasicInts16<Avx2>;

}  // namespace tandem::cpu::avx2
