// Products as VNNI has them: four bytes into each 32-bit sum, one instruction.
#include "kernels/cpu/avx512/peak.h"

#include <immintrin.h>

namespace tandem::cpu::avx512 {

int64_t peak_products(int64_t rounds) {
  // Independent sums: two units with a latency of five cycles want ten.
  constexpr int kChains = 16;
  __m512i sums[kChains] = {};
  const __m512i a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, b);
      asm volatile("" : "+v"(sum));  // rounds may not be folded into one
    }
  }
  return rounds * kChains * 64;
}

}  // namespace tandem::cpu::avx512
