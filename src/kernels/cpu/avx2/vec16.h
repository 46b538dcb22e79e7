// Sixteen float lanes as two AVX2 registers; equals generic/vec16.h bit for bit. Tag keeps what
// different instruction sets compile of it apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

namespace tandem::cpu::avx2 {

template <typename Tag>
struct BasicVec16 {
  using Vec16 = BasicVec16;

  // Eight of the sixteen registers: enough to hide the latency of two fma units.
  static constexpr int kAccumulators = 4;

  __m256 lo, hi;

  static Vec16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Vec16 broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static Vec16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Vec16 load_first(const float* p, int n) {
    return {_mm256_maskload_ps(p, mask(n)), _mm256_maskload_ps(p + 8, mask(n - 8))};
  }
  static Vec16 load_f16(const std::byte* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
  }
  static Vec16 load_bf16(const std::byte* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    const auto widen = [](__m128i h) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
    };
    return {widen(_mm_loadu_si128(halves)), widen(_mm_loadu_si128(halves + 1))};
  }

  void store(float* p) const {
    _mm256_storeu_ps(p, lo);
    _mm256_storeu_ps(p + 8, hi);
  }
  void store_first(float* p, int n) const {
    _mm256_maskstore_ps(p, mask(n), lo);
    _mm256_maskstore_ps(p + 8, mask(n - 8), hi);
  }
  void store_f16(std::byte* p) const {
    auto* halves = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(hi, _MM_FROUND_TO_NEAREST_INT));
  }
  void store_bf16(std::byte* p) const {
    const __m256i packed = _mm256_packus_epi32(round_bf16(lo), round_bf16(hi));
    // packus works within 128-bit halves: put its quadwords back in order 0 2 1 3.
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }

  friend Vec16 operator+(Vec16 a, Vec16 b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  friend Vec16 operator-(Vec16 a, Vec16 b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  friend Vec16 operator*(Vec16 a, Vec16 b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  friend Vec16 operator/(Vec16 a, Vec16 b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
  static Vec16 fma(Vec16 a, Vec16 b, Vec16 c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static Vec16 max(Vec16 a, Vec16 b) {
    return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
  }
  static Vec16 min(Vec16 a, Vec16 b) {
    return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
  }
  static Vec16 zero_below(Vec16 x, Vec16 limit, Vec16 value) {
    return {_mm256_and_ps(_mm256_cmp_ps(x.lo, limit.lo, _CMP_GE_OQ), value.lo),
            _mm256_and_ps(_mm256_cmp_ps(x.hi, limit.hi, _CMP_GE_OQ), value.hi)};
  }
  static Vec16 add_exponent(Vec16 x, Vec16 shifted) {
    const auto add = [](__m256 value, __m256 bits) {
      return _mm256_castsi256_ps(_mm256_add_epi32(
          _mm256_castps_si256(value), _mm256_slli_epi32(_mm256_castps_si256(bits), 23)));
    };
    return {add(x.lo, shifted.lo), add(x.hi, shifted.hi)};
  }

  static Vec16 rotate_pairs(Vec16 x, Vec16 angles) {
    const auto rotate = [](__m256 v, __m256 t) {
      return _mm256_addsub_ps(_mm256_mul_ps(v, _mm256_moveldup_ps(t)),
                              _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(t)));
    };
    return {rotate(x.lo, angles.lo), rotate(x.hi, angles.hi)};
  }

  static void transpose(Vec16 (&rows)[16]) {
    // Quarters of 8 x 8; the two off the diagonal change places.
    __m256 a[8], b[8], c[8], d[8];
    for (int i = 0; i < 8; ++i) {
      a[i] = rows[i].lo;
      b[i] = rows[i].hi;
      c[i] = rows[8 + i].lo;
      d[i] = rows[8 + i].hi;
    }
    transpose8(a);
    transpose8(b);
    transpose8(c);
    transpose8(d);
    for (int i = 0; i < 8; ++i) {
      rows[i] = {a[i], c[i]};
      rows[8 + i] = {b[i], d[i]};
    }
  }

  // out[0 .. 3] = the sums, or maxima, of a, b, c and d.
  static void store_sums(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* out) {
    reduce_four(
        a, b, c, d, [](__m256 x, __m256 y) { return _mm256_add_ps(x, y); }, out);
  }
  static void store_maxima(Vec16 a, Vec16 b, Vec16 c, Vec16 d, float* out) {
    reduce_four(
        a, b, c, d, [](__m256 x, __m256 y) { return _mm256_max_ps(x, y); }, out);
  }

  float sum() const {
    const __m256 eight = _mm256_add_ps(lo, hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  float maximum() const {
    const __m256 eight = _mm256_max_ps(lo, hi);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

 private:
  // The tree of sum() on four vectors, which come together in one as they get shorter.
  template <typename Combine>
  static void reduce_four(Vec16 a, Vec16 b, Vec16 c, Vec16 d, const Combine& combine, float* out) {
    const auto halves = [&](const Vec16& x, const Vec16& y) {
      const __m256 i = combine(x.lo, x.hi), j = combine(y.lo, y.hi);
      return combine(_mm256_permute2f128_ps(i, j, 0x20), _mm256_permute2f128_ps(i, j, 0x31));
    };
    const __m256 ab = halves(a, b), cd = halves(c, d);
    const __m256 two = combine(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    const __m256 one =
        combine(_mm256_shuffle_ps(two, two, 0x88), _mm256_shuffle_ps(two, two, 0xdd));
    _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(one), _mm256_extractf128_ps(one, 1)));
  }
  static void transpose8(__m256 (&rows)[8]) {
    // quad[4 i + j] has, in its 128-bit part p, column 4 p + j of rows 4 i to 4 i + 3.
    __m256 quad[8];
    for (int i = 0; i < 8; i += 4) {
      const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i], rows[i + 1]));
      const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i], rows[i + 1]));
      const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(rows[i + 2], rows[i + 3]));
      const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(rows[i + 2], rows[i + 3]));
      quad[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
      quad[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
      quad[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
      quad[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int j = 0; j < 4; ++j) {
      rows[j] = _mm256_permute2f128_ps(quad[j], quad[4 + j], 0x20);
      rows[4 + j] = _mm256_permute2f128_ps(quad[j], quad[4 + j], 0x31);
    }
  }
  // All ones in lanes below n; n may be negative or above 8.
  static __m256i mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i round_bf16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
  }
};

struct Avx2 {
  static __m256i multiply_pairs(__m256i sum, __m256i a, __m256i b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  }
};
using Vec16 = BasicVec16<Avx2>;

}  // namespace tandem::cpu::avx2
