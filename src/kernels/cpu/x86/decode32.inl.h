// Blocks of the 32-wide types -> 32 int16 values. Included by the avx2 and avx512 kernels; Isa
// keeps their instantiations apart.
#pragma once

#include "kernels/cpu/x86/load.inl.h"
#include "quant/unpack.h"

namespace tandem::cpu::x86 {

struct Decoded32 {
  __m256i q[2];  // 16 int16 each
};

// The codes of four bits as bytes: elements 0-15, elements 16-31.
struct Nibbles {
  __m128i low, high;
};
static inline Nibbles nibbles(const uint8_t (&codes)[16]) {
  const __m128i bytes = load16(codes);
  return {bits_of<0>(bytes, 15), bits_of<4>(bytes, 15)};
}

// Bytes that are signed, or at most 127, as int16.
static inline void widen(__m128i low, __m128i high, Decoded32& out) {
  out.q[0] = _mm256_cvtepi8_epi16(low);
  out.q[1] = _mm256_cvtepi8_epi16(high);
}

static inline void look_up(const int8_t* values, Nibbles codes, Decoded32& out) {
  const __m128i table = load16(values);
  widen(_mm_shuffle_epi8(table, codes.low), _mm_shuffle_epi8(table, codes.high), out);
}

// Codes with their fifth bits.
static inline Nibbles five_bits(const uint8_t (&codes)[16], const uint8_t (&fifth_bits)[4]) {
  const Nibbles four = nibbles(codes);
  const __m256i fifth =
      _mm256_and_si256(byte_mask(load_word<uint32_t>(fifth_bits)), _mm256_set1_epi8(16));
  return {_mm_or_si128(four.low, _mm256_castsi256_si128(fifth)),
          _mm_or_si128(four.high, _mm256_extracti128_si256(fifth, 1))};
}

static inline void subtract_and_widen(Nibbles codes, int offset, Decoded32& out) {
  const __m128i offsets = _mm_set1_epi8(static_cast<char>(offset));
  widen(_mm_sub_epi8(codes.low, offsets), _mm_sub_epi8(codes.high, offsets), out);
}

template <typename Isa>
struct Decode32 {
  static void decode(const quant::BlockQ4_0& b, Decoded32& out) {
    subtract_and_widen(nibbles(b.codes), 8, out);
  }
  static void decode(const quant::BlockQ4_1& b, Decoded32& out) {
    const Nibbles codes = nibbles(b.codes);
    widen(codes.low, codes.high, out);
  }
  static void decode(const quant::BlockQ5_0& b, Decoded32& out) {
    subtract_and_widen(five_bits(b.codes, b.fifth_bits), 16, out);
  }
  static void decode(const quant::BlockQ5_1& b, Decoded32& out) {
    const Nibbles codes = five_bits(b.codes, b.fifth_bits);
    widen(codes.low, codes.high, out);
  }
  static void decode(const quant::BlockQ8_0& b, Decoded32& out) {
    widen(load16(b.q), load16(b.q + 16), out);
  }
  static void decode(const quant::BlockIQ4_NL& b, Decoded32& out) {
    look_up(quant::kIq4Values, nibbles(b.codes), out);
  }
  static void decode(const quant::BlockMXFP4& b, Decoded32& out) {
    look_up(quant::kMxfp4Values, nibbles(b.codes), out);
  }

  template <typename Block>
  static Factors factors(const Block* const* b) {
    return load_d(b);
  }
  static Factors factors(const quant::BlockQ4_1* const* b) { return load_d_and_minimum(b); }
  static Factors factors(const quant::BlockQ5_1* const* b) { return load_d_and_minimum(b); }
  static Factors factors(const quant::BlockMXFP4* const* b) {
    const __m128i e =
        _mm_setr_epi32(b[0]->exponent, b[1]->exponent, b[2]->exponent, b[3]->exponent);
    const __m128i one = _mm_set1_epi32(1);
    const __m128i normal = _mm_slli_epi32(_mm_sub_epi32(e, one), 23);
    const __m128i denormal = _mm_sllv_epi32(_mm_set1_epi32(0x00200000), e);
    const __m128i bits = _mm_blendv_epi8(denormal, normal, _mm_cmpgt_epi32(e, one));
    return {_mm_castsi128_ps(bits), _mm_setzero_ps()};
  }
};

}  // namespace tandem::cpu::x86
