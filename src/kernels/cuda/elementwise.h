// Small operators on float rows. Each result is one chain of correctly rounded operations in the
// CPU's order (kernels/cpu/lanes/elementwise.inl.h), so it equals the CPU's bit for bit.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// Rows of floats on the device.
struct Rows {
  float* data;     // row 0
  int64_t stride;  // floats from a row to the next
};
struct ConstRows {
  const float* data;
  int64_t stride;
};

// out[t, i] = a[t, i] + b[t, i]; out may be a or b.
struct AddParams {
  ConstRows a;  // [T, n]
  ConstRows b;  // [T, n]
  Rows out;     // [T, n]
  int64_t n;
  int tokens;  // T
};
void add(const AddParams& params, cudaStream_t stream);

// y[t, i] = fma(factor[t], x[t, i], y[t, i]), with the sigmoid of the factor where wanted: a shared
// expert behind its gate.
struct MultiplyAddParams {
  ConstRows x;          // [T, n]
  const float* factor;  // [T]
  bool sigmoid;
  Rows y;  // [T, n]
  int64_t n;
  int tokens;
};
void multiply_add(const MultiplyAddParams& params, cudaStream_t stream);

// out[t, i] = silu(gate[t, i]) * up[t, i]; out may be gate or up.
struct SiluMulParams {
  ConstRows gate;  // [T, n]
  ConstRows up;    // [T, n]
  Rows out;        // [T, n]
  int64_t n;
  int tokens;
};
void silu_mul(const SiluMulParams& params, cudaStream_t stream);

// out[i] = x[rows[i]]
struct GatherRowsParams {
  ConstRows x;          // [*, n]
  const int32_t* rows;  // [count]
  Rows out;             // [count, n]
  int64_t n;
  int count;
};
void gather_rows(const GatherRowsParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
