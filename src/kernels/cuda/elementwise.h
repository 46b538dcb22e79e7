// Small operators on float rows. Each result is one chain of correctly rounded operations in the
// CPU's order (kernels/cpu/lanes/elementwise.inl.h), so they equal the CPU's bit for bit.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// out[t, i] = a[t, i] + b[t, i]; out may be a or b.
struct AddParams {
  const float* a;  // [T, n], rows a_stride floats apart; likewise b and out
  int64_t a_stride;
  const float* b;
  int64_t b_stride;
  float* out;
  int64_t out_stride;
  int64_t n;
  int tokens;  // T
};
void add(const AddParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
