// Rows of weights decoded on the device: the embedding's, or a whole matrix for what wants floats.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "base/dtype.h"

namespace tandem::cuda {

// out[t] = row ids[t] of w, the same float32 as quant::dequantize_row, or that rounded to bf16.
// Rows whose id is not in [0, n) become zero.
struct DecodeRowsParams {
  const void* w;  // [n, k], in panels or, for float types, in rows
  DType type;
  int n;
  int k;               // a multiple of 4
  const int32_t* ids;  // [rows], or null for 0, 1, ...
  int rows;
  void* out;  // [rows, k] f32 or bf16, out_stride values apart, a multiple of 4
  int64_t out_stride;
  bool to_bf16;
};
void decode_rows(const DecodeRowsParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
