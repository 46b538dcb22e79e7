// Products with weight matrices on the GPU, straight from their quantised blocks.
//
// Weights of panel types (quant::has_panels) lie in panels as on the CPU (quant/panels.h), float
// ones in rows. Activations are bf16, sums float32; the weights' integers are exact in the products
// of few tokens and weights are rounded to bf16 in those of many. docs/cuda-kernels.md has the
// errors and speeds. The same call gives the same bits every time; a token's result does not depend
// on its neighbours as long as the number of tokens picks the same kernel.
//
// Kernels start while their predecessor in the stream ends, and read weights at once: a kernel must
// not write weights directly before.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "base/dtype.h"

namespace tandem::cuda {

// y[t, i] = sum over k of x[t, k] w[i, k] + bias[i], or added to y.
struct LinearMatrix {
  const void* w;  // [n, k]
  DType type;
  int n;
  const float* bias;  // [n], or null
  float* y;           // [T, n], rows y_stride floats apart; y and y_stride multiples of 2 floats
  int64_t y_stride;
  bool add;  // y += instead of y =
};

inline constexpr int kMaxLinearMatrices = 4;

// Matrices that read the same x. Those of one type share a launch.
struct LinearParams {
  LinearMatrix matrices[kMaxLinearMatrices];
  int count;
  const __nv_bfloat16*
      x;  // [T, k], rows x_stride values apart, a multiple of 8; aligned to 16 bytes
  int64_t x_stride;
  const float* x_f32;  // [T, k], or null: what float weights are multiplied with instead of x
  int64_t x_f32_stride;
  int k;       // a multiple of 32
  int tokens;  // T
};
void linear(const LinearParams& params, cudaStream_t stream);

// y = silu(x gate^T) * (x up^T)
struct GatedParams {
  const void* gate;  // [n, k], in panels
  const void* up;    // [n, k]
  DType type;        // of both
  int n;
  const __nv_bfloat16* x;  // [T, k] as above
  int64_t x_stride;
  int k;
  int tokens;
  __nv_bfloat16* y;  // [T, n], rows y_stride values apart, a multiple of 2
  int64_t y_stride;
};
void linear_gated(const GatedParams& params, cudaStream_t stream);

// y[t, h] = x[t, h] w[h]^T for every head on its own, in one launch.
struct HeadsParams {
  const void* w;  // [H, n, k] in panels
  DType type;
  int n;
  int k;  // a multiple of 32
  int heads;
  const __nv_bfloat16* x;  // [T, H, k], aligned to 16 bytes; both strides multiples of 8 values
  int64_t x_stride;        // from a token to the next
  int64_t x_head_stride;
  float* y;  // [T, H, n]
  int64_t y_stride;
  int64_t y_head_stride;
  int tokens;  // T
};
void linear_heads(const HeadsParams& params, cudaStream_t stream);

// x -> nearest bf16. [rows, n], rows of both n values apart; n a multiple of 4.
void round_to_bf16(const float* x, __nv_bfloat16* out, int64_t rows, int64_t n,
                   cudaStream_t stream);

}  // namespace tandem::cuda
