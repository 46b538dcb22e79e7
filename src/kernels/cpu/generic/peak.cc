// The plain loop over bytes that lie in the first-level cache: what the compiler makes of it is the
// most that the scalar definitions can reach.
#include "kernels/cpu/generic/peak.h"

#include <algorithm>
#include <array>

namespace tandem::cpu::generic {

int64_t peak_products(int64_t rounds) {
  constexpr int kBytes = 256;
  std::array<int8_t, kBytes> a, b;
  std::fill(a.begin(), a.end(), int8_t{3});
  std::fill(b.begin(), b.end(), int8_t{-5});
  int32_t sum = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(a.data()), "r"(b.data()) : "memory");  // the bytes may have changed
    sum = 0;
    for (size_t i = 0; i < kBytes; ++i) sum += a[i] * b[i];
    asm volatile("" : : "r"(sum));  // and the sum is wanted
  }
  return rounds * kBytes;
}

}  // namespace tandem::cpu::generic
