// Sixteen lanes of 32 bits as one AVX-512 register; equals generic/ints16.h bit for bit.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "kernels/cpu/avx512/vec16.h"

namespace tandem::cpu::avx512 {

struct Ints16 {
  __m512i v;

  static Ints16 zero() { return {_mm512_setzero_si512()}; }
  static Ints16 load(const void* p) { return {_mm512_loadu_si512(p)}; }
  static Ints16 broadcast_pair(const void* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return {_mm512_set1_epi32(pair)};
  }
  void store(void* p) const { _mm512_storeu_si512(p, v); }
  void store_narrow(void* p) const {
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v));
  }

  static Ints16 multiply_pairs(Ints16 sum, Ints16 a, Ints16 b) {
    return {_mm512_dpwssd_epi32(sum.v, a.v, b.v)};
  }
  static Ints16 pair(Ints16 first, Ints16 second) {
    return {_mm512_mask_blend_epi16(0xaaaaaaaa, first.v, _mm512_slli_epi32(second.v, 16))};
  }
  static Ints16 load_pairs(const void* first, const void* second) {
    const auto widen = [](const void* p) {
      return _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    };
    return {_mm512_or_si512(widen(first), _mm512_slli_epi32(widen(second), 16))};
  }

  static Ints16 round(Vec16 x) { return {_mm512_cvtps_epi32(x.v)}; }
  Vec16 floats() const { return {_mm512_cvtepi32_ps(v)}; }
};

}  // namespace tandem::cpu::avx512
