// Blocks of 32 columns and 16 rows as B tiles of 8 rows: the int8 codes of the scalar definition,
// signs and table values included, so that nothing needs correcting afterwards.
//
//   row r of a B tile:   16 rows x columns 4r .. 4r + 3
//   word w of codes:     low nibbles are row w, high nibbles row 4 + w
#pragma once

#include "kernels/cpu/amx/vectors.inl.h"
#include "quant/unpack.h"

namespace tandem::cpu::amx {

// Traits of each type:
//   kMinima    whether there are minima
//   factors(): d and m of 16 rows              decode(): the rows of the tile
using BTile32 = int8_t[8][64];

struct Q4_0 {
  static constexpr DType kType = DType::kQ4_0;
  static constexpr bool kMinima = false;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float*) { store(d, halves(block.rest)); }
  static inline void decode(const Block& block, BTile32& out) {
    for (int w = 0; w < 4; ++w) {
      const __m512i codes = block.word(w);
      store(out[w], _mm512_sub_epi8(bits_of<0>(codes, 15), bytes(8)));
      store(out[4 + w], _mm512_sub_epi8(bits_of<4>(codes, 15), bytes(8)));
    }
  }
};

struct Q4_1 {
  static constexpr DType kType = DType::kQ4_1;
  static constexpr bool kMinima = true;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float* m) {
    store(d, lower_half(block.word(0)));
    store(m, upper_half(block.word(0)));
  }
  static inline void decode(const Block& block, BTile32& out) {
    for (int w = 0; w < 4; ++w) {
      const __m512i codes = block.word(1 + w);
      store(out[w], bits_of<0>(codes, 15));
      store(out[4 + w], bits_of<4>(codes, 15));
    }
  }
};

// Bit 4r + i of a row's word is the fifth bit of byte i of row r of the tile; kAbsent is added to
// codes without it, kPresent to the others.
template <int kAbsent, int kPresent, typename Block>
static inline void decode_five_bits(const Block& block, int fifth_word, BTile32& out) {
  const __m512i fifth = block.word(fifth_word);
  const __m512i bit[2] = {_mm512_set1_epi32(0x08040201),
                          _mm512_set1_epi32(static_cast<int>(0x80402010U))};
  for (int w = 0; w < 4; ++w) {
    const __m512i codes = block.word(fifth_word + 1 + w);
    const __m512i q[2] = {bits_of<0>(codes, 15), bits_of<4>(codes, 15)};
    for (int i = 0; i < 2; ++i) {
      const int row = 4 * i + w;
      const __m512i spread = bytes_of_byte(fifth, row / 2);
      if constexpr (kPresent == 0) {
        const __mmask64 absent = _mm512_testn_epi8_mask(spread, bit[row % 2]);
        store(out[row], _mm512_mask_add_epi8(q[i], absent, q[i], bytes(kAbsent)));
      } else {
        const __mmask64 present = _mm512_test_epi8_mask(spread, bit[row % 2]);
        store(out[row], _mm512_mask_add_epi8(q[i], present, q[i], bytes(kPresent)));
      }
    }
  }
}

struct Q5_0 {
  static constexpr DType kType = DType::kQ5_0;
  static constexpr bool kMinima = false;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float*) { store(d, halves(block.rest)); }
  static inline void decode(const Block& block, BTile32& out) {
    decode_five_bits<-16, 0>(block, 0, out);
  }
};

struct Q5_1 {
  static constexpr DType kType = DType::kQ5_1;
  static constexpr bool kMinima = true;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float* m) {
    store(d, lower_half(block.word(0)));
    store(m, upper_half(block.word(0)));
  }
  static inline void decode(const Block& block, BTile32& out) {
    decode_five_bits<0, 16>(block, 1, out);
  }
};

struct Q8_0 {
  static constexpr DType kType = DType::kQ8_0;
  static constexpr bool kMinima = false;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float*) { store(d, halves(block.rest)); }
  // The panel's words are the tile.
  static inline void decode(const Block& block, BTile32& out) {
    for (int w = 0; w < 8; ++w) store(out[w], block.word(w));
  }
};

template <typename Block>
static inline void decode_by_table(const Block& block, const int8_t* values, BTile32& out) {
  const __m512i table = table_of(values);
  for (int w = 0; w < 4; ++w) {
    const __m512i codes = block.word(w);
    store(out[w], _mm512_shuffle_epi8(table, bits_of<0>(codes, 15)));
    store(out[4 + w], _mm512_shuffle_epi8(table, bits_of<4>(codes, 15)));
  }
}

struct Iq4Nl {
  static constexpr DType kType = DType::kIQ4_NL;
  static constexpr bool kMinima = false;
  using Block = PanelBlock<kType>;

  static inline void factors(const Block& block, float* d, float*) { store(d, halves(block.rest)); }
  static inline void decode(const Block& block, BTile32& out) {
    decode_by_table(block, quant::kIq4Values, out);
  }
};

struct Mxfp4 {
  static constexpr DType kType = DType::kMXFP4;
  static constexpr bool kMinima = false;
  using Block = PanelBlock<kType>;

  // Half of 2^(exponent - 127), because the values are doubled; the two smallest are denormal.
  static inline void factors(const Block& block, float* d, float*) {
    const __m512i e =
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.rest)));
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i denormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __mmask16 small = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
    store(d, _mm512_castsi512_ps(_mm512_mask_blend_epi32(small, normal, denormal)));
  }
  static inline void decode(const Block& block, BTile32& out) {
    decode_by_table(block, quant::kMxfp4Values, out);
  }
};

}  // namespace tandem::cpu::amx
