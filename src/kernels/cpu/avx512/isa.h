// The operations of kernels/cpu/x86/panels.inl.h on 512-bit vectors with VNNI: a byte-wise dot
// product of unsigned codes with signed activations is one instruction.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

namespace tandem::cpu::avx512 {
namespace {

struct Isa {
  using Words = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  using Scale = __m512i;  // int32

  // 24 of the 32 registers hold the sums of 8 tokens.
  static constexpr int kMostTokens = 8;
  // The instruction wants unsigned codes: signed ones are raised by 128.
  static constexpr int kSignedOffset = 128;

  static Words load(const void* p) { return _mm512_loadu_si512(p); }
  static Words set8(int v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  static Words set32(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
  static Words bit_and(Words a, Words b) { return _mm512_and_si512(a, b); }
  static Words bit_or(Words a, Words b) { return _mm512_or_si512(a, b); }
  static Words sub8(Words a, Words b) { return _mm512_sub_epi8(a, b); }
  template <int n>
  static Words srl16(Words v) {
    if constexpr (n == 0) return v;
    return _mm512_srli_epi16(v, n);
  }
  // Left by n, or right by -n.
  template <int n>
  static Words shift16(Words v) {
    if constexpr (n > 0) return _mm512_slli_epi16(v, n);
    return srl16<-n>(v);
  }
  template <int n>
  static Words srl32(Words v) {
    return _mm512_srli_epi32(v, n);
  }
  template <int n>
  static Words sll32(Words v) {
    return _mm512_slli_epi32(v, n);
  }

  static Words signed_operand(Words codes) { return _mm512_xor_si512(codes, set8(0x80)); }
  // A table of 16 signed values at each byte's index.
  static Words look_up(const int8_t* values, Words indices) {
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
    return _mm512_shuffle_epi8(signed_operand(table), indices);
  }
  // Adds 16 to byte i of the codes of column c where bit 4c + i of the lane of `bits` is set.
  static Words set_bit_4(Words codes, Words bits, int c) {
    const Words spread = _mm512_shuffle_epi8(
        bits, _mm512_broadcast_i32x4(
                  _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                               _mm_set1_epi8(static_cast<char>(c / 2)))));
    const __mmask64 set = _mm512_test_epi8_mask(
        spread, _mm512_set1_epi32(c % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010U)));
    return _mm512_mask_add_epi8(codes, set, codes, set8(16));
  }

  template <bool kSigned>
  static Words even_bytes(Words v) {
    if constexpr (kSigned) return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8);
    return _mm512_and_si512(v, _mm512_set1_epi16(0xff));
  }
  template <bool kSigned>
  static Words odd_bytes(Words v) {
    if constexpr (kSigned) return _mm512_srai_epi16(v, 8);
    return _mm512_srli_epi16(v, 8);
  }
  template <int j, bool kSigned>
  static Scale scale(Words bytes) {
    if constexpr (kSigned) return _mm512_srai_epi32(_mm512_slli_epi32(bytes, 24 - 8 * j), 24);
    return _mm512_and_si512(_mm512_srli_epi32(bytes, 8 * j), _mm512_set1_epi32(0xff));
  }

  static Ints zero_ints() { return _mm512_setzero_si512(); }
  static Ints set_int(int32_t v) { return _mm512_set1_epi32(v); }
  static Ints broadcast32(const void* p) {
    int32_t v;
    std::memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
  }
  static Ints multiply_add16(Ints acc, Words a, Ints b) { return _mm512_dpwssd_epi32(acc, a, b); }
  // -v * factor, a power of two.
  static Ints negative_times(Ints v, uint32_t factor) {
    return _mm512_sub_epi32(zero_ints(), _mm512_slli_epi32(v, std::countr_zero(factor)));
  }

  template <int kTokens, int kColumns, int kHighestCode, bool kSigned, typename Codes>
  [[gnu::always_inline]] static void multiply_group(const Codes& codes, const int8_t* const* a,
                                                    int offset, Scale scale, Ints* sums) {
    Ints group[kTokens];
    for (int t = 0; t < kTokens; ++t) group[t] = zero_ints();
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Words w = codes(c);
      for (int t = 0; t < kTokens; ++t) {
        group[t] = _mm512_dpbusd_epi32(group[t], w, broadcast32(a[t] + offset + 4 * c));
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = _mm512_add_epi32(sums[t], _mm512_mullo_epi32(group[t], scale));
    }
  }

  // sums += codes . (128 hi + lo) over 32 elements.
  template <int kTokens, int kHighestCode, bool kSigned, typename Codes>
  [[gnu::always_inline]] static void multiply_halves(const Codes& codes, const int8_t* const* hi,
                                                     const int8_t* const* lo, Ints* sums) {
    Ints high[kTokens];
    for (int t = 0; t < kTokens; ++t) high[t] = zero_ints();
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const Words w = codes(c);
      for (int t = 0; t < kTokens; ++t) {
        high[t] = _mm512_dpbusd_epi32(high[t], w, broadcast32(hi[t] + 4 * c));
        sums[t] = _mm512_dpbusd_epi32(sums[t], w, broadcast32(lo[t] + 4 * c));
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = _mm512_add_epi32(sums[t], _mm512_slli_epi32(high[t], 7));
    }
  }

  static Floats zero_floats() { return _mm512_setzero_ps(); }
  static Floats broadcast_float(const float* p) { return _mm512_set1_ps(*p); }
  static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
  static Floats load_halves(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Floats low_halves(Words v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
  static Floats high_halves(Words v) { return low_halves(_mm512_srli_epi32(v, 16)); }
  // 2^(e - 128) of 16 bytes e.
  static Floats load_mxfp4_scales(const std::byte* p) {
    const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
    const __m512i denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(
        _mm512_mask_blend_epi32(_mm512_cmpgt_epi32_mask(e, one), denormal, normal));
  }
  static void store_first(float* p, Floats v, int n) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << n) - 1U), v);
  }
};

}  // namespace
}  // namespace tandem::cpu::avx512
