// Super-blocks of the codebook types (IQ1, IQ2, IQ3) -> signed int8 values and int16 scales. Points
// are loaded eight (IQ3: four) at a time from quant/codebooks.h. Included by the avx2 and avx512
// kernels; Isa keeps their instantiations apart.
#pragma once

#include "kernels/cpu/x86/load.inl.h"
#include "quant/codebooks.h"

namespace tandem::cpu::x86 {

// I = sum over eight groups j of 32 elements of scale[j] * (q[j] . a[j]). A scale vector holds one
// int16 for each pair of elements, so that groups of 16 and of 32 elements look alike.
struct Decoded256 {
  __m256i q[8];      // 32 values of 8 bits
  __m256i scale[8];  // 16 int16: one for each pair of values
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

static inline __m256i four_points(const int8_t (*table)[8], uint32_t i0, uint32_t i1, uint32_t i2,
                                  uint32_t i3) {
  return _mm256_setr_epi64x(load_word<long long>(table[i0]), load_word<long long>(table[i1]),
                            load_word<long long>(table[i2]), load_word<long long>(table[i3]));
}

// The points of eight indices: bytes, and a ninth bit each.
static inline __m256i eight_points(const int8_t (*table)[4], const uint8_t* indices,
                                   uint32_t ninth_bits) {
  const auto point = [&](uint32_t i) {
    return load_word<int>(table[indices[i] | ((ninth_bits >> i) & 1U) << 8]);
  };
  return _mm256_setr_epi32(point(0), point(1), point(2), point(3), point(4), point(5), point(6),
                           point(7));
}

// Negates byte i where bit i is set.
static inline __m256i apply_signs(__m256i points, uint32_t signs) {
  const __m256i mask = byte_mask(signs);
  return _mm256_sub_epi8(_mm256_xor_si256(points, mask), mask);
}

// Four bytes of seven signs -> of eight: the eighth makes the number of minuses even.
static inline uint32_t complete_signs(uint32_t sevens) {
  uint32_t parity = sevens ^ sevens >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return sevens | (parity & 0x01010101U) << 7;
}

// Four groups of seven bits, side by side, into bytes.
static inline uint32_t spread_sevens(uint32_t word) {
  return (word & 0x7fU) | (word << 1 & 0x7f00U) | (word << 2 & 0x7f0000U) |
         (word << 3 & 0x7f000000U);
}

// Scale 2 s + 1 of 32 elements.
static inline __m256i odd_scale(uint32_t s) {
  return _mm256_set1_epi16(static_cast<short>(2 * s + 1));
}

// Sixteen nibbles s, low halves of bytes first, to scales 2 s + 1.
static inline void spread_odd_scales(const uint8_t (&scales)[8], __m256i* out) {
  const __m128i bytes = _mm_cvtsi64_si128(load_word<long long>(scales));
  const __m256i s =
      _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(bits_of<0>(bytes, 15), bits_of<4>(bytes, 15)));
  spread_scales(_mm256_add_epi16(_mm256_add_epi16(s, s), _mm256_set1_epi16(1)), out);
}

// Ternary points, times 8, plus 1 or, where `minus` has a byte of ones, minus 1.
static inline __m256i iq1_values(__m256i points, __m256i minus) {
  const __m256i eights = _mm256_and_si256(_mm256_slli_epi16(points, 3), _mm256_set1_epi8(-8));
  return _mm256_add_epi8(eights, _mm256_or_si256(minus, _mm256_set1_epi8(1)));
}

// The parts of d in IQ1_M.
static inline int joined_half(const quant::BlockIQ1_M& b) {
  return b.scales[0][1] >> 4 | (b.scales[1][1] & 0xf0) | (b.scales[2][1] & 0xf0) << 4 |
         (b.scales[3][1] & 0xf0) << 8;
}

static inline __m128 times(__m128 factors, float fraction) {
  return _mm_mul_ps(factors, _mm_set1_ps(fraction));
}

template <typename Isa>
struct DecodeCodebook {
  // With the fractions that make all values integers (quant/reference.h).
  template <typename Block>
  static __m128 factors(const Block* const* b) {
    return times(load_d(b), 0.125F);
  }
  static __m128 factors(const quant::BlockIQ3_XXS* const* b) { return times(load_d(b), 0.25F); }
  static __m128 factors(const quant::BlockIQ3_S* const* b) { return load_d(b); }
  static __m128 factors(const quant::BlockIQ1_M* const* b) {
    const __m128i halves = _mm_setr_epi32(joined_half(*b[0]) | joined_half(*b[1]) << 16,
                                          joined_half(*b[2]) | joined_half(*b[3]) << 16, 0, 0);
    return times(_mm_cvtph_ps(halves), 0.125F);
  }

  static void decode(const quant::BlockIQ2_XXS& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq2_xxs;
    for (int j = 0; j < 8; ++j) {
      const uint8_t* index = b.groups[j].indices;
      const auto signs_scale = load_word<uint32_t>(b.groups[j].signs_scale);
      out.scale[j] = odd_scale(signs_scale >> 28);
      out.q[j] = apply_signs(four_points(table, index[0], index[1], index[2], index[3]),
                             complete_signs(spread_sevens(signs_scale)));
    }
  }

  static void decode(const quant::BlockIQ2_XS& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq2_xs;
    spread_odd_scales(b.scales, out.scale);
    for (int j = 0; j < 8; ++j) {
      uint32_t index[4];
      uint32_t signs = 0;
      for (int i = 0; i < 4; ++i) {
        const uint32_t code = load_word<uint16_t>(b.codes[4 * j + i]);
        index[i] = code & 511U;
        signs |= (code >> 9) << (8 * i);
      }
      out.q[j] = apply_signs(four_points(table, index[0], index[1], index[2], index[3]),
                             complete_signs(signs));
    }
  }

  static void decode(const quant::BlockIQ2_S& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq2_s;
    spread_odd_scales(b.scales, out.scale);
    for (int j = 0; j < 8; ++j) {
      const uint8_t* index = b.indices + 4 * j;
      const uint32_t high = b.indices_high[j];
      out.q[j] = apply_signs(
          four_points(table, index[0] | (high << 8 & 0x300U), index[1] | (high << 6 & 0x300U),
                      index[2] | (high << 4 & 0x300U), index[3] | (high << 2 & 0x300U)),
          load_word<uint32_t>(b.signs + 4 * j));
    }
  }

  static void decode(const quant::BlockIQ3_XXS& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq3_xxs;
    for (int j = 0; j < 8; ++j) {
      const auto signs_scale = load_word<uint32_t>(b.signs_scale[j]);
      out.scale[j] = odd_scale(signs_scale >> 28);
      out.q[j] = apply_signs(eight_points(table, b.indices + 8 * j, 0),
                             complete_signs(spread_sevens(signs_scale)));
    }
  }

  static void decode(const quant::BlockIQ3_S& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq3_s;
    const auto scales = load_word<uint32_t>(b.scales);
    for (int j = 0; j < 8; ++j) {
      out.scale[j] = odd_scale((scales >> (4 * j)) & 15U);
      out.q[j] = apply_signs(eight_points(table, b.indices + 8 * j, b.indices_high[j]),
                             load_word<uint32_t>(b.signs + 4 * j));
    }
  }

  static void decode(const quant::BlockIQ1_S& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq1;
    for (int j = 0; j < 8; ++j) {
      const uint32_t group = load_word<uint16_t>(b.groups[j]);
      const uint8_t* index = b.indices + 4 * j;
      out.scale[j] = odd_scale((group >> 12) & 7U);
      const __m256i points =
          four_points(table, index[0] | (group << 8 & 0x700U), index[1] | (group << 5 & 0x700U),
                      index[2] | (group << 2 & 0x700U), index[3] | (group >> 1 & 0x700U));
      out.q[j] = iq1_values(points, _mm256_set1_epi8(group >> 15 ? -1 : 0));
    }
  }

  static void decode(const quant::BlockIQ1_M& b, Decoded256& out) {
    const auto* table = quant::codebooks().iq1;
    const auto words = load_word<uint64_t>(b.scales);
    alignas(32) int16_t scales[16];
    for (int g = 0; g < 16; ++g) {
      scales[g] = static_cast<int16_t>(2 * ((words >> (g / 4 * 16 + g % 4 * 3)) & 7U) + 1);
    }
    spread_scales(load32(scales), out.scale);
    for (int j = 0; j < 8; ++j) {
      const uint8_t* index = b.indices + 4 * j;
      const uint32_t high = load_word<uint16_t>(b.indices_high + 2 * j);
      const __m256i points =
          four_points(table, index[0] | (high << 8 & 0x700U), index[1] | (high << 4 & 0x700U),
                      index[2] | (high & 0x700U), index[3] | (high >> 4 & 0x700U));
      const auto minus = [&](int i) -> long long { return (high >> (4 * i + 3)) & 1U ? -1 : 0; };
      out.q[j] = iq1_values(points, _mm256_setr_epi64x(minus(0), minus(1), minus(2), minus(3)));
    }
  }
};

}  // namespace tandem::cpu::x86
