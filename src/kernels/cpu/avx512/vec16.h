// Sixteen float lanes as one AVX-512 register; equals generic/vec16.h bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

namespace tandem::cpu::avx512 {

struct Vec16 {
  // Half of the registers: enough to hide the latency of two fma units.
  static constexpr int kAccumulators = 16;

  __m512 v;

  static Vec16 zero() { return {_mm512_setzero_ps()}; }
  static Vec16 broadcast(float value) { return {_mm512_set1_ps(value)}; }
  static Vec16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec16 load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(mask(n), p)}; }
  static Vec16 load_f16(const std::byte* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec16 load_bf16(const std::byte* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_first(float* p, int n) const { _mm512_mask_storeu_ps(p, mask(n), v); }
  void store_f16(std::byte* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  // By integer arithmetic, not AVX512-BF16's conversion, which flushes denormals.
  void store_bf16(std::byte* p) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x00400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }

  friend Vec16 operator+(Vec16 a, Vec16 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec16 operator-(Vec16 a, Vec16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec16 operator*(Vec16 a, Vec16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec16 operator/(Vec16 a, Vec16 b) { return {_mm512_div_ps(a.v, b.v)}; }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec16 max(Vec16 a, Vec16 b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec16 min(Vec16 a, Vec16 b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec16 zero_below(Vec16 x, Vec16 limit, Vec16 value) {
    return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_GE_OQ), value.v)};
  }
  static Vec16 add_exponent(Vec16 x, Vec16 shifted) {
    return {_mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_castps_si512(x.v), _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23)))};
  }

  static Vec16 rotate_pairs(Vec16 x, Vec16 angles) {
    const __m512 straight = _mm512_mul_ps(x.v, _mm512_moveldup_ps(angles.v));
    const __m512 crossed =
        _mm512_mul_ps(_mm512_permute_ps(x.v, 0xb1), _mm512_movehdup_ps(angles.v));
    return {_mm512_mask_sub_ps(_mm512_add_ps(straight, crossed), 0x5555, straight, crossed)};
  }

  static void transpose(Vec16 (&rows)[16]) {
    // Pairs of rows, then fours: quad[4 i + j] has, in its 128-bit part p, column 4 p + j of rows
    // 4 i to 4 i + 3.
    __m512 quad[16];
    for (int i = 0; i < 16; i += 4) {
      const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i].v, rows[i + 1].v));
      const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i].v, rows[i + 1].v));
      const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v));
      const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v));
      quad[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
      quad[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
      quad[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
      quad[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int j = 0; j < 4; ++j) {
      const __m512 even_low = _mm512_shuffle_f32x4(quad[j], quad[4 + j], 0x88);
      const __m512 even_high = _mm512_shuffle_f32x4(quad[8 + j], quad[12 + j], 0x88);
      const __m512 odd_low = _mm512_shuffle_f32x4(quad[j], quad[4 + j], 0xdd);
      const __m512 odd_high = _mm512_shuffle_f32x4(quad[8 + j], quad[12 + j], 0xdd);
      rows[j].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      rows[4 + j].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      rows[8 + j].v = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
      rows[12 + j].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
  }

  // out[0 .. 3] = the sums, or maxima, of a, b, c and d.
  static void store_sums(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* out) {
    reduce_four(
        a, b, c, d, [](__m512 x, __m512 y) { return _mm512_add_ps(x, y); }, out);
  }
  static void store_maxima(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* out) {
    reduce_four(
        a, b, c, d, [](__m512 x, __m512 y) { return _mm512_max_ps(x, y); }, out);
  }

  float sum() const {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), upper());
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float maximum() const {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(v), upper());
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  // The tree of sum() on four vectors, which come together in one as they get shorter.
  template <typename Combine>
  static void reduce_four(Vec16 a, Vec16 b, Vec16 c, Vec16 d, const Combine& combine, float* out) {
    const auto halves = [&](__m512 x, __m512 y) {
      return combine(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
    };
    const __m512 ab = halves(a.v, b.v), cd = halves(c.v, d.v);
    const __m512 four =
        combine(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const __m512 two = combine(four, _mm512_permute_ps(four, 0x4e));
    const __m512 one = combine(two, _mm512_permute_ps(two, 0xb1));
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, one)));
  }
  __m256 upper() const { return _mm512_extractf32x8_ps(v, 1); }
  static __mmask16 mask(int n) {
    return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1U << n) - 1U);
  }
};

}  // namespace tandem::cpu::avx512
