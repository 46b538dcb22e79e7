// Super-blocks of the K-quants and of IQ4_XS -> int8 codes and int16 scales. Included by the avx2
// and avx512 kernels; Isa keeps their instantiations apart.
//
// Every type becomes   I = sum over j of scale[j] * (q[j] . a[j])  -  (offset types) minima . sums
//                      M = (types with minima) minima . sums
// for eight groups j of 32 elements; a scale vector holds one int16 for each pair of elements, so
// that groups of 16 and of 32 elements look alike.
#pragma once

#include "kernels/cpu/x86/load.inl.h"
#include "quant/unpack.h"

namespace tandem::cpu::x86 {

struct Decoded256 {
  __m256i q[8];      // 32 codes of 8 bits
  __m256i scale[8];  // 16 int16: one for each pair of codes
  __m256i minima;    // 16 int16: one for each 16 elements; offset * scale for offset types
};

enum class Codes {
  kUnsigned,  // codes are the values; minima are the type's own
  kOffset,    // value = code - offset; minima hold offset * scale
  kSigned,    // codes are signed values; no minima
};

// scales: 16 int16, for 16 elements each -> out[j]: scale 2j in the lower half, 2j + 1 in the
// upper.
static inline void spread_scales(__m256i scales, __m256i* out) {
  const __m256i low = _mm256_permute2x128_si256(scales, scales, 0x00);  // scales 0-7 in both halves
  const __m256i high = _mm256_permute2x128_si256(scales, scales, 0x11);  // scales 8-15
  for (int j = 0; j < 8; ++j) {
    const auto first = static_cast<short>((4 * (j % 4)) | (4 * (j % 4) + 1) << 8);
    const auto second = static_cast<short>((4 * (j % 4) + 2) | (4 * (j % 4) + 3) << 8);
    const __m256i pick = _mm256_set_m128i(_mm_set1_epi16(second), _mm_set1_epi16(first));
    out[j] = _mm256_shuffle_epi8(j < 4 ? low : high, pick);
  }
}

// The scales and minima of Q4_K and Q5_K, doubled to 16 groups.
static inline void decode_scales(const uint8_t (&bytes)[12], Decoded256& out) {
  const auto a = load_word<uint32_t>(bytes);
  const auto b = load_word<uint32_t>(bytes + 4);
  const auto c = load_word<uint32_t>(bytes + 8);
  const uint32_t scales_high = (c & 0x0f0f0f0fU) | ((a >> 6) & 0x03030303U) << 4;
  const uint32_t minima_high = ((c >> 4) & 0x0f0f0f0fU) | ((b >> 6) & 0x03030303U) << 4;
  const __m128i scales =
      _mm_set_epi32(0, 0, static_cast<int>(scales_high), static_cast<int>(a & 0x3f3f3f3fU));
  const __m128i minima =
      _mm_set_epi32(0, 0, static_cast<int>(minima_high), static_cast<int>(b & 0x3f3f3f3fU));
  spread_scales(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(scales, scales)), out.scale);
  out.minima = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(minima, minima));
}

static inline void decode_nibbles(const uint8_t (&codes)[128], __m256i* q) {
  for (int j = 0; j < 4; ++j) {
    const __m256i bytes = load32(codes + 32 * j);
    q[2 * j] = bits_of<0>(bytes, 15);
    q[2 * j + 1] = bits_of<4>(bytes, 15);
  }
}

static inline void decode_two_bits(const uint8_t (&codes)[64], __m256i* q) {
  for (int half = 0; half < 2; ++half) {
    const __m256i bytes = load32(codes + 32 * half);
    q[4 * half] = bits_of<0>(bytes, 3);
    q[4 * half + 1] = bits_of<2>(bytes, 3);
    q[4 * half + 2] = bits_of<4>(bytes, 3);
    q[4 * half + 3] = bits_of<6>(bytes, 3);
  }
}

// Bit j of byte l becomes bit kPlace of code l of group j.
template <int kPlace>
static inline void add_further_bits(const uint8_t (&bits)[32], __m256i* q) {
  const __m256i bytes = load32(bits);
  for (int j = 0; j < 8; ++j) {
    const __m256i bit = _mm256_and_si256(_mm256_srli_epi16(bytes, j), _mm256_set1_epi8(1));
    q[j] = _mm256_or_si256(q[j], _mm256_slli_epi16(bit, kPlace));
  }
}

template <typename Isa>
struct DecodeK {
  template <typename Block>
  static Factors factors(const Block* const* b) {
    return load_d(b);
  }
  static Factors factors(const quant::BlockQ2_K* const* b) { return load_d_and_minimum(b); }
  static Factors factors(const quant::BlockQ4_K* const* b) { return load_d_and_minimum(b); }
  static Factors factors(const quant::BlockQ5_K* const* b) { return load_d_and_minimum(b); }

  static void decode(const quant::BlockQ2_K& b, Decoded256& out) {
    const __m128i bytes = load16(b.scales);
    spread_scales(_mm256_cvtepu8_epi16(bits_of<0>(bytes, 15)), out.scale);
    out.minima = _mm256_cvtepu8_epi16(bits_of<4>(bytes, 15));
    decode_two_bits(b.codes, out.q);
  }

  static void decode(const quant::BlockQ3_K& b, Decoded256& out) {
    const __m128i low_bytes = _mm_cvtsi64_si128(load_word<long long>(b.scales));
    const __m128i low = _mm_unpacklo_epi64(bits_of<0>(low_bytes, 15), bits_of<4>(low_bytes, 15));
    const auto high_bytes = load_word<uint32_t>(b.scales + 8);
    const __m128i high = bits_of<0>(
        _mm_setr_epi32(static_cast<int>(high_bytes), static_cast<int>(high_bytes >> 2),
                       static_cast<int>(high_bytes >> 4), static_cast<int>(high_bytes >> 6)),
        3);
    const __m128i six_bits = _mm_or_si128(low, _mm_slli_epi16(high, 4));
    const __m256i scales = _mm256_cvtepi8_epi16(_mm_sub_epi8(six_bits, _mm_set1_epi8(32)));
    spread_scales(scales, out.scale);
    out.minima = _mm256_slli_epi16(scales, 2);  // offset 4
    decode_two_bits(b.codes, out.q);
    add_further_bits<2>(b.third_bits, out.q);
  }

  static void decode(const quant::BlockQ4_K& b, Decoded256& out) {
    decode_scales(b.scales, out);
    decode_nibbles(b.codes, out.q);
  }

  static void decode(const quant::BlockQ5_K& b, Decoded256& out) {
    decode_scales(b.scales, out);
    decode_nibbles(b.codes, out.q);
    add_further_bits<4>(b.fifth_bits, out.q);
  }

  static void decode(const quant::BlockQ6_K& b, Decoded256& out) {
    const __m256i scales = _mm256_cvtepi8_epi16(load16(b.scales));
    spread_scales(scales, out.scale);
    out.minima = _mm256_slli_epi16(scales, 5);  // offset 32
    for (int half = 0; half < 2; ++half) {
      const __m256i first = load32(b.low + 64 * half), second = load32(b.low + 64 * half + 32);
      const __m256i high = load32(b.high + 32 * half);
      __m256i* q = out.q + 4 * half;
      q[0] = _mm256_or_si256(bits_of<0>(first, 15), _mm256_slli_epi16(bits_of<0>(high, 3), 4));
      q[1] = _mm256_or_si256(bits_of<0>(second, 15), _mm256_slli_epi16(bits_of<2>(high, 3), 4));
      q[2] = _mm256_or_si256(bits_of<4>(first, 15), _mm256_slli_epi16(bits_of<4>(high, 3), 4));
      q[3] = _mm256_or_si256(bits_of<4>(second, 15), _mm256_slli_epi16(bits_of<6>(high, 3), 4));
    }
  }

  static void decode(const quant::BlockIQ4_XS& b, Decoded256& out) {
    // Lower bits in order: byte i holds scales 2i and 2i + 1; upper bits: word bits 2j.
    const auto low = load_word<uint32_t>(b.scales_low);
    const auto high = load_word<uint16_t>(b.scales_high);
    const __m128i values = load16(quant::kIq4Values);
    for (int j = 0; j < 8; ++j) {
      const uint32_t scale = ((low >> (4 * j)) & 15U) | ((high >> (2 * j)) & 3U) << 4;
      out.scale[j] = _mm256_set1_epi16(static_cast<short>(static_cast<int>(scale) - 32));
      const __m128i codes = load16(b.codes + 16 * j);
      out.q[j] = _mm256_set_m128i(_mm_shuffle_epi8(values, bits_of<4>(codes, 15)),
                                  _mm_shuffle_epi8(values, bits_of<0>(codes, 15)));
    }
  }
};

}  // namespace tandem::cpu::x86
