// Rotary position embedding: the step's table of angles, and the rotation.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// table[t]: cos and sin of positions[t] * frequencies[i], times magnitude; interleaved: (cos, sin)
// of each pair, else all cos, then all sin. The angles are doubles, as ops::rope_frequencies gives
// them.
struct RopeTableParams {
  const int32_t* positions;   // [T]
  const double* frequencies;  // [dims / 2]
  float* table;               // [T, dims]
  int dims;                   // even
  bool interleaved;
  float magnitude;
  int tokens;
};
void fill_rope_table(const RopeTableParams& params, cudaStream_t stream);

// Rotates the first `dims` columns of each head, in place; equals the CPU's bits.
struct RopeParams {
  float* x;              // [T, heads, dims]
  int64_t token_stride;  // floats
  int64_t head_stride;
  const float* table;  // [T, dims]
  int dims;
  bool interleaved;  // pairs are (2 i, 2 i + 1); else (i, i + dims / 2)
  int heads;
  int tokens;
};
void rope(const RopeParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
