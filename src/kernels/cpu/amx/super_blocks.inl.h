// Super-blocks of 256 columns and 16 rows as B tiles: int8 operands of which the integer product of
// the scalar definition is a sum.
//
//   word w of a block:   16 rows x 4 bytes of codes         quant/panels.h
//   row r of a B tile:   16 rows x columns 4r .. 4r + 3     what the tile product wants
//
// So the codes of a word, shifted and masked, are rows of tiles already, and no byte changes its
// place. With A the activations, I = sum_g sc_g (q_g . a_g) over the whole super-block becomes
//
//   Q2_K          B = sc q                           I = C               (0 .. 45)
//   Q3_K          B = -(sc q)                        I = -C              (-128 .. 124; sc q is not
//                                                                         int8, as -32 * -4 = 128)
//   Q4_K Q5_K     B0 = (sc >> 3) q, B1 = (sc & 7) q  I = 8 C0 + C1       (uint8: 31 * 7 = 217)
//   Q6_K IQ4_XS   B0 = sc q >> 8, B1 = sc q & 255    I = 256 C0 + C1     (int8, uint8)
//
// Splitting the scale of Q4_K and Q5_K, not the product, saves two thirds of their decoding:
// products of codes with three bits of the scale do not leave their byte, so one 16-bit
// multiplication makes two of them, and nothing has to be taken apart.
#pragma once

#include "kernels/cpu/amx/vectors.inl.h"
#include "quant/unpack.h"

namespace tandem::cpu::amx {

inline constexpr int kSteps = 4;  // tiles of 64 columns

template <int kOperands>
struct alignas(64) BTiles {
  int8_t rows[kOperands][kSteps][16][64];
};

// What scales the products of a super-block; lane r is row r.
struct alignas(64) Factors {
  float d[16];
  float dmin[16];
  int32_t minima[8][16];  // pairs of 16 bits, in the order of A256Row::sums
};

// Eight minima of a dword pair's bytes (four each): partners of four dwords of sums.
static inline void store_minima(int32_t (*out)[16], __m512i four) {
  const __m512i even = _mm512_set1_epi32(0x00ff00ff);
  store(out[0], _mm512_and_si512(four, even));
  store(out[1], _mm512_and_si512(_mm512_srli_epi32(four, 8), even));
}

// Traits of each type:
//   kOperands  B tiles of a step     kShift    I = (C0 << kShift) + C1
//   kSigned    of each operand       kNegated  I = -C
//   kMinima    dwords of sums        kSums     index of the first sum in A256Row::sums
//   Scales, scales(): what the steps share, read once.   decode<step>(): B tiles of 64 columns.

template <DType kQ4OrQ5>
struct Q4KOrQ5K {
  static constexpr DType kType = kQ4OrQ5;
  static constexpr int kOperands = 2;
  static constexpr int kShift = 3;
  static constexpr bool kSigned[] = {false, false};
  static constexpr bool kNegated = false;
  static constexpr int kMinima = 4;
  static constexpr int kSums = 16;
  static constexpr bool kHasFifth = kType == DType::kQ5_K;
  static constexpr int kFifth = 4;
  static constexpr int kCodes = kHasFifth ? 12 : 4;
  using Block = PanelBlock<kType>;

  struct alignas(64) Scales {
    __m512i high[2], low[2];  // of each group of 32, one a byte
  };

  static inline void scales(const Block& block, Scales& out, Factors& factors) {
    const __m512i factor_halves = block.word(0);
    store(factors.d, lower_half(factor_halves));
    store(factors.dmin, upper_half(factor_halves));
    const __m512i a = block.word(1), b = block.word(2), c = block.word(3);
    const __m512i scale[2] = {bits_of<0>(a, 63),
                              _mm512_or_si512(bits_of<0>(c, 15), bits_of<6, 4>(a, 3))};
    store_minima(factors.minima, bits_of<0>(b, 63));
    store_minima(factors.minima + 2, _mm512_or_si512(bits_of<4>(c, 15), bits_of<6, 4>(b, 3)));
    for (int i = 0; i < 2; ++i) {
      out.high[i] = bits_of<3>(scale[i], 7);
      out.low[i] = bits_of<0>(scale[i], 7);
    }
  }

  // Low nibbles are group 2 * step, high ones the next.
  template <int kStep>
  static inline void decode(const Block& block, const Scales& scales, BTiles<2>& out) {
    constexpr int kFirst = 2 * kStep % 4;  // of the two groups, in the four of a vector
    const __m512i high[2] = {words_of_byte(scales.high[kStep / 2], kFirst),
                             words_of_byte(scales.high[kStep / 2], kFirst + 1)};
    const __m512i low[2] = {words_of_byte(scales.low[kStep / 2], kFirst),
                            words_of_byte(scales.low[kStep / 2], kFirst + 1)};
    for (int w = 0; w < 8; ++w) {
      const __m512i codes = block.word(kCodes + 8 * kStep + w);
      __m512i q[2] = {bits_of<0>(codes, 15), bits_of<4>(codes, 15)};
      if constexpr (kHasFifth) {
        const __m512i fifth = block.word(kFifth + w);
        q[0] = _mm512_or_si512(q[0], bits_of<2 * kStep, 4>(fifth, 1));
        q[1] = _mm512_or_si512(q[1], bits_of<2 * kStep + 1, 4>(fifth, 1));
      }
      for (int i = 0; i < 2; ++i) {
        store(out.rows[0][kStep][8 * i + w], _mm512_mullo_epi16(q[i], high[i]));
        store(out.rows[1][kStep][8 * i + w], _mm512_mullo_epi16(q[i], low[i]));
      }
    }
  }
};
using Q4K = Q4KOrQ5K<DType::kQ4_K>;
using Q5K = Q4KOrQ5K<DType::kQ5_K>;

// Rows 8 * i + w of step `kStep` of two-bit codes: run kStep / 2, bits from 4 * (kStep % 2) + 2 i.
struct Q2K {
  static constexpr DType kType = DType::kQ2_K;
  static constexpr int kOperands = 1;
  static constexpr int kShift = 0;
  static constexpr bool kSigned[] = {false};
  static constexpr bool kNegated = false;
  static constexpr int kMinima = 8;
  static constexpr int kSums = 0;
  using Block = PanelBlock<kType>;

  struct alignas(64) Scales {
    __m512i of[4];  // of each group of 16, one a byte
  };

  static inline void scales(const Block& block, Scales& out, Factors& factors) {
    const __m512i factor_halves = block.word(20);
    store(factors.d, lower_half(factor_halves));
    store(factors.dmin, upper_half(factor_halves));
    for (int i = 0; i < 4; ++i) {
      const __m512i both = block.word(i);
      store_minima(factors.minima + 2 * i, bits_of<4>(both, 15));
      out.of[i] = bits_of<0>(both, 15);
    }
  }

  template <int kStep>
  static inline void decode(const Block& block, const Scales& scales, BTiles<1>& out) {
    constexpr int kBit = 4 * (kStep % 2);
    for (int w = 0; w < 8; ++w) {
      const __m512i codes = block.word(4 + 8 * (kStep / 2) + w);
      const __m512i q[2] = {bits_of<kBit>(codes, 3), bits_of<kBit + 2>(codes, 3)};
      for (int i = 0; i < 2; ++i) {
        const __m512i scale = words_of_byte(scales.of[kStep], 2 * i + w / 4);
        store(out.rows[0][kStep][8 * i + w], _mm512_mullo_epi16(q[i], scale));
      }
    }
  }
};

struct Q3K {
  static constexpr DType kType = DType::kQ3_K;
  static constexpr int kOperands = 1;
  static constexpr int kShift = 0;
  static constexpr bool kSigned[] = {true};
  static constexpr bool kNegated = true;
  static constexpr int kMinima = 0;
  static constexpr int kSums = 0;
  using Block = PanelBlock<kType>;

  struct alignas(64) Scales {
    __m512i of[4];  // 32 - scale of each group of 16, modulo 256, one a byte
  };

  static inline void scales(const Block& block, Scales& out, Factors& factors) {
    store(factors.d, halves(block.rest));
    const __m512i a = block.word(24), b = block.word(25), high = block.word(26);
    const __m512i scale[4] = {_mm512_or_si512(bits_of<0>(a, 15), bits_of<0, 4>(high, 3)),
                              _mm512_or_si512(bits_of<0>(b, 15), bits_of<2, 4>(high, 3)),
                              _mm512_or_si512(bits_of<4>(a, 15), bits_of<4, 4>(high, 3)),
                              _mm512_or_si512(bits_of<4>(b, 15), bits_of<6, 4>(high, 3))};
    for (int i = 0; i < 4; ++i) out.of[i] = _mm512_sub_epi8(bytes(32), scale[i]);
  }

  template <int kStep>
  static inline void decode(const Block& block, const Scales& scales, BTiles<1>& out) {
    constexpr int kBit = 4 * (kStep % 2);
    for (int w = 0; w < 8; ++w) {
      const __m512i third = block.word(w);
      const __m512i codes = block.word(8 + 8 * (kStep / 2) + w);
      const __m512i q[2] = {
          _mm512_or_si512(bits_of<kBit>(codes, 3), bits_of<2 * kStep, 2>(third, 1)),
          _mm512_or_si512(bits_of<kBit + 2>(codes, 3), bits_of<2 * kStep + 1, 2>(third, 1))};
      for (int i = 0; i < 2; ++i) {
        const __m512i scale = words_of_byte(scales.of[kStep], 2 * i + w / 4);
        store(out.rows[0][kStep][8 * i + w],
              multiply_bytes(_mm512_sub_epi8(q[i], bytes(4)), scale));
      }
    }
  }

 private:
  // Modulo 256: the lower byte of a 16-bit product does not depend on the upper bytes, and a factor
  // without a lower byte makes the upper byte of one.
  static inline __m512i multiply_bytes(__m512i q, __m512i scale) {
    const __m512i upper = _mm512_andnot_si512(_mm512_set1_epi16(0x00ff), q);
    return join(_mm512_mullo_epi16(q, scale), _mm512_mullo_epi16(upper, scale));
  }
};

// Products of 13 bits: u - offset times a scale of int8, u an unsigned byte.
struct WideScale {
  __m512i even, odd;  // the scale as first, or as second, byte of each word; the other is 0
  __m512i offset;     // offset * scale in each word
};
static inline WideScale wide_scale(__m512i scales, int j, int offset) {
  const __m512i even = words_of_byte(scales, j);
  return {even, _mm512_slli_epi16(even, 8), _mm512_maddubs_epi16(bytes(offset), even)};
}

static inline void store_wide(__m512i u, const WideScale& s, BTiles<2>& out, int step, int row) {
  const __m512i even = _mm512_sub_epi16(_mm512_maddubs_epi16(u, s.even), s.offset);
  const __m512i odd = _mm512_sub_epi16(_mm512_maddubs_epi16(u, s.odd), s.offset);
  store(out.rows[0][step][row], join(_mm512_srli_epi16(even, 8), odd));
  store(out.rows[1][step][row], join(even, _mm512_slli_epi16(odd, 8)));
}

struct Q6K {
  static constexpr DType kType = DType::kQ6_K;
  static constexpr int kOperands = 2;
  static constexpr int kShift = 8;
  static constexpr bool kSigned[] = {true, false};
  static constexpr bool kNegated = false;
  static constexpr int kMinima = 0;
  static constexpr int kSums = 0;
  using Block = PanelBlock<kType>;

  struct Scales {};  // read in each step

  static inline void scales(const Block& block, Scales&, Factors& factors) {
    store(factors.d, halves(block.rest));
  }

  template <int kStep>
  static inline void decode(const Block& block, const Scales&, BTiles<2>& out) {
    constexpr int kHalf = kStep / 2;
    constexpr int kBit = 4 * (kStep % 2);  // of low codes; of high ones for rows 0 .. 7, then + 2
    const __m512i scales = block.word(48 + kStep);  // of groups of 16 columns, four words each
    const WideScale scale[4] = {wide_scale(scales, 0, 32), wide_scale(scales, 1, 32),
                                wide_scale(scales, 2, 32), wide_scale(scales, 3, 32)};
    for (int w = 0; w < 8; ++w) {
      const __m512i high = block.word(32 + 8 * kHalf + w);
      const __m512i u[2] = {
          _mm512_or_si512(bits_of<kBit>(block.word(16 * kHalf + w), 15), bits_of<kBit, 4>(high, 3)),
          _mm512_or_si512(bits_of<kBit>(block.word(16 * kHalf + 8 + w), 15),
                          bits_of<kBit + 2, 4>(high, 3)),
      };
      for (int i = 0; i < 2; ++i) {
        store_wide(u[i], scale[2 * i + w / 4], out, kStep, 8 * i + w);
      }
    }
  }
};

struct Iq4Xs {
  static constexpr DType kType = DType::kIQ4_XS;
  static constexpr int kOperands = 2;
  static constexpr int kShift = 8;
  static constexpr bool kSigned[] = {true, false};
  static constexpr bool kNegated = false;
  static constexpr int kMinima = 0;
  static constexpr int kSums = 0;
  using Block = PanelBlock<kType>;

  struct alignas(64) Scales {
    __m512i even, odd;  // of groups 0 2 4 6 and 1 3 5 7, one a byte
    __m512i values;     // plus 128
  };

  static inline void scales(const Block& block, Scales& out, Factors& factors) {
    const __m512i first = block.word(0), low = block.word(1);
    store(factors.d, lower_half(first));
    // | 0 | 0 | bits 15 .. 8 | bits 7 .. 0 | of the upper bits -> their four nibbles, one a byte.
    const __m512i high = _mm512_srli_epi32(first, 16);
    const __m512i two = _mm512_and_si512(_mm512_or_si512(high, _mm512_slli_epi32(high, 8)),
                                         _mm512_set1_epi32(0x00ff00ff));
    const __m512i nibbles =
        _mm512_and_si512(_mm512_or_si512(two, _mm512_slli_epi32(two, 4)), bytes(15));
    const __m512i even = _mm512_or_si512(bits_of<0>(low, 15), bits_of<0, 4>(nibbles, 3));
    const __m512i odd = _mm512_or_si512(bits_of<4>(low, 15), bits_of<2, 4>(nibbles, 3));
    out.even = _mm512_sub_epi8(even, bytes(32));
    out.odd = _mm512_sub_epi8(odd, bytes(32));
    out.values = _mm512_add_epi8(table_of(quant::kIq4Values), bytes(128));
  }

  template <int kStep>
  static inline void decode(const Block& block, const Scales& scales, BTiles<2>& out) {
    const WideScale both[2] = {wide_scale(scales.even, kStep, 128),
                               wide_scale(scales.odd, kStep, 128)};
    for (int w = 0; w < 8; ++w) {
      const int i = w / 4;
      const __m512i codes = block.word(2 + 8 * kStep + w);
      const WideScale& scale = both[i];
      store_wide(_mm512_shuffle_epi8(scales.values, bits_of<0>(codes, 15)), scale, out, kStep,
                 8 * i + w % 4);
      store_wide(_mm512_shuffle_epi8(scales.values, bits_of<4>(codes, 15)), scale, out, kStep,
                 8 * i + 4 + w % 4);
    }
  }
};

}  // namespace tandem::cpu::amx
