// A token's sum over its experts.
#pragma once

#include "kernels/cuda/experts_group.h"

namespace tandem::cuda {

// Of the columns from `at` on, as many as Columns has floats; ranks in order.
template <typename Columns>
__device__ Columns sum_of_experts(const ExpertSums& p, int64_t t, int64_t at) {
  constexpr int kCount = sizeof(Columns) / sizeof(float);
  float sum[kCount] = {};
  for (int rank = 0; rank < p.used; ++rank) {
    const int slot = p.slot_of[t * p.used + rank];
    if (slot < 0) continue;
    const float w = p.weights[t * p.used + rank];
    const Columns v = *reinterpret_cast<const Columns*>(p.results + int64_t{slot} * p.width + at);
    float values[kCount];
    memcpy(values, &v, sizeof values);
    for (int i = 0; i < kCount; ++i) sum[i] = fmaf(w, values[i], sum[i]);
  }
  Columns out;
  memcpy(&out, sum, sizeof out);
  return out;
}

}  // namespace tandem::cuda
