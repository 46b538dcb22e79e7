// Rotary position embedding: the step's table of angles. prepare.h rotates by it.
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

}  // namespace tandem::cuda
