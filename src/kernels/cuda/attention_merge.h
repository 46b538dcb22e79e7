// Brings the partial results of split keys together.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace tandem::cuda {

// out[r, h] = sum over i of 2^lse[i, h] * partial[i, h] / sum of 2^lse[i, h], i from starts[r] to
// starts[r + 1]; no parts give zeros. The order of the sums is fixed by the number of parts.
struct MergeParams {
  const float* partial;   // [parts, H, D]
  const float* lse;       // [parts, H] logarithm, base 2, of each part's weight
  const int32_t* starts;  // [R + 1] device
  float* out;             // [R, H, D]
  const uint32_t* rows;   // device: how many rows there are, or null for max_rows
  int max_rows;
  int heads;
  int dim;                           // 64 or 128
  __nv_bfloat16* rounded = nullptr;  // [R, H * D] out for products (linear.h) too, or null
};
void merge_attention(const MergeParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
