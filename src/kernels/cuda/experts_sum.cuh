// A token's sum over its experts.
#pragma once

#include "kernels/cuda/experts_group.h"

namespace tandem::cuda {

// Of the columns from `at` on, as many as Columns has floats; ranks in order. Eight ranks' loads
// are under way at once: one after the other they would be most of a decode step's norm.
template <typename Columns>
__device__ Columns sum_of_experts(const ExpertSums& p, int64_t t, int64_t at) {
  constexpr int kCount = sizeof(Columns) / sizeof(float), kAtOnce = 8;
  float sum[kCount] = {};
  for (int first = 0; first < p.used; first += kAtOnce) {
    int slots[kAtOnce];
    float weights[kAtOnce], values[kAtOnce][kCount];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const bool there = first + i < p.used;
      slots[i] = there ? p.slot_of[t * p.used + first + i] : -1;
      weights[i] = there ? p.weights[t * p.used + first + i] : 0.0F;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (slots[i] < 0) continue;
      const Columns v =
          *reinterpret_cast<const Columns*>(p.results + int64_t{slots[i]} * p.width + at);
      memcpy(values[i], &v, sizeof v);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (slots[i] < 0) continue;
      for (int l = 0; l < kCount; ++l) sum[l] = fmaf(weights[i], values[i][l], sum[l]);
    }
  }
  Columns out;
  memcpy(&out, sum, sizeof out);
  return out;
}

}  // namespace tandem::cuda
