// Products of codes with activations by AVX2: pairs in saturating 16 bits, added up in 16 bits as
// far as the highest code allows, then multiplied with the scale and widened in one instruction.
#pragma once

#include "kernels/cpu/x86/isa256.inl.h"

namespace tandem::cpu::avx2 {
namespace {

struct Isa : x86::Isa256<Isa> {
  using Scale = Words;  // int16, the same in both halves of a lane

  // Two halves of two sums for each token: four tokens fill the 16 registers.
  static constexpr int kMostTokens = 4;
  static constexpr int kSignedOffset = 0;  // signs move to the activations

  static Words signed_operand(Words codes) { return codes; }
  static Words look_up(const int8_t* values, Words indices) {
    return signed_look_up(values, 0, indices);
  }

  template <int j, bool kSigned>
  static Scale scale(Words bytes) {
    const Ints v = byte_as_int<j, kSigned>(bytes);
    return each(
        [](__m256i x) {
          return _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)),
                                 _mm256_slli_epi32(x, 16));
        },
        v);
  }

  // Columns whose pairs of products, each at most highest * 127, fit together into 16 bits.
  template <int kHighestCode>
  static constexpr int kColumnsIn16 = 32767 / (2 * kHighestCode * 127) > 8
                                          ? 8
                                          : 32767 / (2 * kHighestCode * 127);

  // 16 sums of two products of codes with a; `magnitude` is |codes| where they are signed.
  template <bool kSigned>
  [[gnu::always_inline]] static __m256i pairs(__m256i codes, __m256i magnitude, __m256i a) {
    if constexpr (kSigned) return _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(a, codes));
    return _mm256_maddubs_epi16(codes, a);
  }

  // sums += factor * (codes . a) over kColumns columns.
  template <int kTokens, int kColumns, int kHighestCode, bool kSigned, typename Codes>
  [[gnu::always_inline]] static void multiply_group(const Codes& codes, const int8_t* const* a,
                                                    int offset, Scale factor, Ints* sums) {
    constexpr int kRun =
        kColumnsIn16<kHighestCode> < kColumns ? kColumnsIn16<kHighestCode> : kColumns;
    for (int first = 0; first < kColumns; first += kRun) {
      Words partial[kTokens];
      for (int t = 0; t < kTokens; ++t) partial[t] = zero_ints();
      for (int c = first; c < first + kRun && c < kColumns; ++c) {
        const Words w = codes(c);
        for (int h = 0; h < 2; ++h) {
          const __m256i magnitude = kSigned ? _mm256_abs_epi8(w.half[h]) : w.half[h];
          for (int t = 0; t < kTokens; ++t) {
            const __m256i p =
                pairs<kSigned>(w.half[h], magnitude, broadcast(a[t] + offset + 4 * c));
            partial[t].half[h] = _mm256_add_epi16(partial[t].half[h], p);
          }
        }
      }
      for (int t = 0; t < kTokens; ++t) sums[t] = multiply_add16(sums[t], partial[t], factor);
    }
  }

  // sums += codes . (128 hi + lo) over 32 elements.
  template <int kTokens, int kHighestCode, bool kSigned, typename Codes>
  [[gnu::always_inline]] static void multiply_halves(const Codes& codes, const int8_t* const* hi,
                                                     const int8_t* const* lo, Ints* sums) {
    multiply_group<kTokens, 8, kHighestCode, kSigned>(codes, hi, 0, both(_mm256_set1_epi16(128)),
                                                      sums);
    multiply_group<kTokens, 8, kHighestCode, kSigned>(codes, lo, 0, both(_mm256_set1_epi16(1)),
                                                      sums);
  }
};

}  // namespace
}  // namespace tandem::cpu::avx2
