// Byte tricks on 64-byte vectors of panels, 16 rows times 4 bytes, that the decoders share.
// Everything is static: nothing compiled for one instruction set may be linked into another.
#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "quant/blocks.h"
#include "quant/panels.h"

namespace tandem::cpu::amx {

// A block of a panel, as quant/panels.h draws it.
template <DType kType>
struct PanelBlock {
  static constexpr int kWords = sizeof(typename quant::BlockOf<kType>::Type) / 4;
  static constexpr int kRest = sizeof(typename quant::BlockOf<kType>::Type) % 4;
  static constexpr int kWordBytes = kWords * 64;  // of a block

  const std::byte* words;  // [kWords, 16] u32
  const std::byte* rest;   // [16, kRest]

  // Block b of a panel whose rows have `blocks`.
  static PanelBlock at(const std::byte* panel, int64_t b, int64_t blocks) {
    return {panel + quant::panel_words_at(kWords, kRest, b),
            panel + quant::panel_rest_at(kWords, kRest, b, blocks)};
  }

  // Word w as the file counts them.
  __m512i word(int w) const { return _mm512_loadu_si512(words + 64 * quant::panel_word(kType, w)); }
};

static inline __m512i bytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }

static inline void store(void* out, __m512i v) { _mm512_store_si512(out, v); }
static inline void store(void* out, __m512 v) { _mm512_store_ps(out, v); }

// Bits [kShift, kShift + width of mask) of each byte, moved to bit kTo.
template <int kShift, int kTo = 0>
static inline __m512i bits_of(__m512i v, int mask) {
  if constexpr (kShift > kTo) v = _mm512_srli_epi16(v, kShift - kTo);
  if constexpr (kShift < kTo) v = _mm512_slli_epi16(v, kTo - kShift);
  return _mm512_and_si512(v, bytes(mask << kTo));
}

// In every word of two bytes: the first of `a`, the second of `b`.
static inline __m512i join(__m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi16(0x00ff), 0xe4);
}

// Byte j of every dword as the two words of it.
static inline __m512i words_of_byte(__m512i v, int j) {
  const int zero = -128;
  const __m128i lane = _mm_setr_epi8(
      static_cast<char>(j), static_cast<char>(zero), static_cast<char>(j), static_cast<char>(zero),
      static_cast<char>(j + 4), static_cast<char>(zero), static_cast<char>(j + 4),
      static_cast<char>(zero), static_cast<char>(j + 8), static_cast<char>(zero),
      static_cast<char>(j + 8), static_cast<char>(zero), static_cast<char>(j + 12),
      static_cast<char>(zero), static_cast<char>(j + 12), static_cast<char>(zero));
  return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(lane));
}

// Byte j of every dword in all its bytes.
static inline __m512i bytes_of_byte(__m512i v, int j) {
  const __m512i first =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  return _mm512_shuffle_epi8(v, _mm512_add_epi8(first, bytes(j)));
}

// A table of 16 bytes, for _mm512_shuffle_epi8.
static inline __m512i table_of(const int8_t* values) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
}

// The lower, or the upper, halves of 16 dwords as floats.
static inline __m512 lower_half(__m512i v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
static inline __m512 upper_half(__m512i v) { return lower_half(_mm512_srli_epi32(v, 16)); }
// 16 halves in a row.
static inline __m512 halves(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

}  // namespace tandem::cpu::amx
