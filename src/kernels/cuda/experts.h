// Routed experts on the GPU: tokens grouped by expert, gate and up, down, and the weighted sum. All
// of it is decided on the device, so a captured graph serves any routing.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "base/dtype.h"
#include "kernels/cuda/experts_group.h"
#include "kernels/cuda/linear.h"

namespace tandem::cuda {

// results of expert(ids[t, rank])(x[t]) with expert(x) = down (silu(gate x) * (up x)), and what
// combine_experts(), or the norm that follows (norm.h), needs to sum them: residual[t] += sum over
// ranks, best first, of weights[t, rank] * result, in the order of the ranks whatever else runs. A
// rank whose id is not in [0, E) takes no part: padding tokens have -1.
struct ExpertsParams {
  const void* gate;  // [E, F, M] in panels
  const void* up;    // [E, F, M]
  const void* down;  // [E, M, F]
  DType gate_type;   // of gate and up
  DType down_type;
  int experts;           // E, at most kMaxExperts
  int hidden;            // F
  int width;             // M
  ConstProductRows x;    // [T, M]
  const int32_t* ids;    // [T, K]
  const float* weights;  // [T, K]
  int tokens;            // T
  int used;              // K
  float* residual;       // [T, M]
  void* workspace;       // experts_workspace_bytes(...), aligned to 256 bytes
  int shared_bytes = 0;  // as in LinearParams
};
inline constexpr int kMaxExperts = 512;

ExpertSums run_experts(const ExpertsParams& params, cudaStream_t stream);
size_t experts_workspace_bytes(int tokens, int used, int experts, int hidden, int width);

}  // namespace tandem::cuda
