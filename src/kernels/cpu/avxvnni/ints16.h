// The lanes of avx2/vec16.h and avx2/ints16.h with pairs multiplied and added in one instruction.
#pragma once

#include "kernels/cpu/avx2/ints16.h"

namespace tandem::cpu::avxvnni {

struct AvxVnni {
  static __m256i multiply_pairs(__m256i sum, __m256i a, __m256i b) {
    return _mm256_dpwssd_avx_epi32(sum, a, b);
  }
};
using Vec16 = avx2::BasicVec16<AvxVnni>;
using Ints16 = avx2::BasicInts16<AvxVnni>;

}  // namespace tandem::cpu::avxvnni
