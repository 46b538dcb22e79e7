// Products of codes with activations by AVX-VNNI, on CPUs without AVX-512: the byte-wise dot
// product of kernels/cpu/avx512/isa.h on pairs of 256-bit vectors.
#pragma once

#include "kernels/cpu/x86/isa256.inl.h"

namespace tandem::cpu::avxvnni {
namespace {

struct Isa : x86::Isa256<Isa> {
  using Scale = Ints;

  // Two halves of two sums for each token: four tokens fill the 16 registers.
  static constexpr int kMostTokens = 4;
  static constexpr int kSignedOffset = 128;  // the instruction wants unsigned codes

  static Words signed_operand(Words codes) {
    return each([](__m256i x) { return _mm256_xor_si256(x, _mm256_set1_epi8(-128)); }, codes);
  }
  static Words look_up(const int8_t* values, Words indices) {
    return signed_look_up(values, 0x80, indices);
  }
  template <int j, bool kSigned>
  static Scale scale(Words bytes) {
    return byte_as_int<j, kSigned>(bytes);
  }

  [[gnu::always_inline]] static void add_products(Ints& sum, Words codes, const int8_t* a) {
    const __m256i four = broadcast(a);
    for (int h = 0; h < 2; ++h) {
      sum.half[h] = _mm256_dpbusd_avx_epi32(sum.half[h], codes.half[h], four);
    }
  }

  // sums += scale * (codes . a) over kColumns columns.
  template <int kTokens, int kColumns, int kHighestCode, bool kSigned, typename Codes>
  [[gnu::always_inline]] static void multiply_group(const Codes& codes, const int8_t* const* a,
                                                    int offset, Scale scale, Ints* sums) {
    Ints group[kTokens];
    for (int t = 0; t < kTokens; ++t) group[t] = zero_ints();
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Words w = codes(c);
      for (int t = 0; t < kTokens; ++t) add_products(group[t], w, a[t] + offset + 4 * c);
    }
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = add(sums[t], each([](__m256i x, __m256i y) { return _mm256_mullo_epi32(x, y); },
                                  group[t], scale));
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
        add_products(high[t], w, hi[t] + 4 * c);
        add_products(sums[t], w, lo[t] + 4 * c);
      }
    }
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = add(sums[t], each([](__m256i x) { return _mm256_slli_epi32(x, 7); }, high[t]));
    }
  }
};

}  // namespace
}  // namespace tandem::cpu::avxvnni
