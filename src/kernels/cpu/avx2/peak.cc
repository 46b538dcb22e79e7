// Products as AVX2 has them: bytes to 16-bit pairs, pairs to 32-bit sums, an addition.
#include "kernels/cpu/avx2/peak.h"

#include <immintrin.h>

namespace tandem::cpu::avx2 {

int64_t peak_products(int64_t rounds) {
  // Independent sums, so that throughput is measured and not latency; with the operands and a
  // temporary they fit the sixteen registers.
  constexpr int kChains = 10;
  __m256i sums[kChains] = {};
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(-5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m256i& sum : sums) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
      asm volatile("" : "+x"(a), "+x"(sum));  // no product may be used twice, none left out
    }
  }
  return rounds * kChains * 32;
}

}  // namespace tandem::cpu::avx2
