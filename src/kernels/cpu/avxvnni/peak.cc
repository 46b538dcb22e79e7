// Products as VNNI has them, on 256-bit vectors.
#include "kernels/cpu/avxvnni/peak.h"

#include <immintrin.h>

namespace tandem::cpu::avxvnni {

int64_t peak_products(int64_t rounds) {
  // Independent sums: two units with a latency of five cycles want ten.
  constexpr int kChains = 12;
  __m256i sums[kChains] = {};
  const __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5);
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m256i& sum : sums) {
      sum = _mm256_dpbusd_avx_epi32(sum, a, b);
      asm volatile("" : "+x"(sum));  // rounds may not be folded into one
    }
  }
  return rounds * kChains * 32;
}

}  // namespace tandem::cpu::avxvnni
