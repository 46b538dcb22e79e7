// Reads of blocks and bit tricks that the decoders of all quantised types share. Everything is
// static: nothing compiled for one instruction set may be linked into another.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "quant/blocks.h"

namespace tandem::cpu::x86 {

static inline __m256i load32(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
template <typename Word>
static inline Word load_word(const void* p) {
  Word word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// d of a block of four rows, row r in lane r.
template <typename Block>
static inline __m128 load_d(const Block* const* b) {
  __m128i halves = _mm_cvtsi32_si128(load_word<uint16_t>(&b[0]->d));
  halves = _mm_insert_epi16(halves, load_word<uint16_t>(&b[1]->d), 1);
  halves = _mm_insert_epi16(halves, load_word<uint16_t>(&b[2]->d), 2);
  halves = _mm_insert_epi16(halves, load_word<uint16_t>(&b[3]->d), 3);
  return _mm_cvtph_ps(halves);
}

// Bits [kShift, kShift + width of mask) of each byte.
template <int kShift>
static inline __m128i bits_of(__m128i bytes, int mask) {
  return _mm_and_si128(_mm_srli_epi16(bytes, kShift), _mm_set1_epi8(static_cast<char>(mask)));
}

// All ones in byte i where bit i of the word is set.
static inline __m256i byte_mask(uint32_t word) {
  const __m256i spread =
      _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(word)),
                          _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                           2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
  return _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
}

}  // namespace tandem::cpu::x86
