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

// Where products look for a column of a row of activations: of every 32 columns, the eight that a
// lane of a tensor-core tile takes lie together, so that it reads them as 16 bytes.
//
//   place      0 1 2 3   4  5  6  7    8 9 10 11  12 13 14 15   ...
//   column     0 1 2 3  16 17 18 19    4 5  6  7  20 21 22 23   ...
__host__ __device__ inline int64_t product_place(int64_t column) {
  const int64_t in_block = column % 32;
  return column - in_block + in_block % 16 / 4 * 8 + in_block / 16 * 4 + in_block % 4;
}

// Activations as products read them: bf16 in that order, so rows have whole blocks of 32 columns.
struct ProductRows {
  __nv_bfloat16* data = nullptr;  // aligned to 16 bytes; null: not wanted
  int64_t stride = 0;             // values from a row to the next, a multiple of 32
};
struct ConstProductRows {
  ConstProductRows() = default;
  ConstProductRows(const __nv_bfloat16* rows, int64_t row_stride)
      : data(rows), stride(row_stride) {}
  ConstProductRows(const ProductRows& rows) : data(rows.data), stride(rows.stride) {}
  const __nv_bfloat16* data = nullptr;
  int64_t stride = 0;
};

// y[t, i] = sum over k of x[t, k] w[i, k] + bias[i], or added to y.
struct LinearMatrix {
  const void* w;  // [n, k]
  DType type;
  int n;
  const float* bias;  // [n], or null
  float* y;           // [T, n], rows y_stride floats apart; y and y_stride multiples of 2 floats
  int64_t y_stride;
  bool add;                  // y += instead of y =
  ProductRows rounded = {};  // [T, n] y for further products, from panels alone
};

inline constexpr int kMaxLinearMatrices = 4;

// Matrices that read the same x. Those of one type share a launch.
struct LinearParams {
  LinearMatrix matrices[kMaxLinearMatrices];
  int count;
  ConstProductRows x;  // [T, k] what panels are multiplied with
  const float* x_f32;  // [T, k] what float weights are multiplied with; null where there are none
  int64_t x_f32_stride;
  int k;                 // a multiple of 32
  int tokens;            // T
  int shared_bytes = 0;  // as kernels of that much shared memory a block; 0: what the device has
};
void linear(const LinearParams& params, cudaStream_t stream);

// y = silu(x gate^T) * (x up^T)
struct GatedParams {
  const void* gate;  // [n, k], in panels
  const void* up;    // [n, k]
  DType type;        // of both
  int n;
  ConstProductRows x;  // [T, k]
  int k;
  int tokens;
  ProductRows y;         // [T, n]
  int shared_bytes = 0;  // as above
};
void linear_gated(const GatedParams& params, cudaStream_t stream);

// y[t, h] = x[t, h] w[h]^T for every head on its own, in one launch.
struct HeadsParams {
  const void* w;  // [H, n, k] in panels
  DType type;
  int n;
  int k;  // a multiple of 32
  int heads;
  ConstProductRows x;     // [T, H, k]
  int64_t x_head_stride;  // a multiple of 32
  float* y;               // [T, H, n]
  int64_t y_stride;
  int64_t y_head_stride;
  int tokens;                // T
  ProductRows rounded = {};  // [T, H * n] y for further products; n a multiple of 32
  int shared_bytes = 0;      // as above
};
void linear_heads(const HeadsParams& params, cudaStream_t stream);

// x -> what products read. [rows, n], n a multiple of 32.
struct RoundParams {
  const float* x;
  int64_t x_stride;  // floats, a multiple of 4
  ProductRows out;
  int64_t n;
  int64_t rows;
};
void round_for_products(const RoundParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
