// The experts of a layer on the CPU: routed ones, which tokens share when they meet in one, and the
// shared expert, which all tokens go through, as one operator.
#pragma once

#include <cstdint>
#include <limits>

#include "base/tensor.h"
#include "moe/grouping.h"
#include "ops/context.h"

namespace tandem::moe {

struct ExpertWeights {
  Tensor gate;  // [E, F, M]
  Tensor up;    // [E, F, M]
  Tensor down;  // [E, M, F]

  int64_t bytes_per_expert() const;
};

constexpr int64_t kNeverStreamed = std::numeric_limits<int64_t>::max();

struct ExpertLayer {
  ExpertWeights routed;
  ExpertWeights shared;  // one expert [1, Fs, M], or none
  bool last = false;     // layer of the model
  // Beside a GPU: routed experts in host memory are copied there in steps of so many tokens and
  // more, while the GPU has buffers for it.
  int64_t stream_from = kNeverStreamed;
};

struct ExpertStep {
  const float* x;                        // [T, M] f32
  const std::byte* x_rounded = nullptr;  // as in ops::Features
  // [T, K] experts of each token, best first; on the CPU a negative one takes no part: the GPU has
  // computed it (ops/hot_slots.h).
  const int32_t* ids;
  const float* weights;      // [T, K]
  const float* shared_gate;  // [T] the sigmoid of each scales the token's shared expert, or null
  int64_t tokens;            // T
  int used;                  // K
  float* residual;           // [T, M] f32
};

// residual[t] += (sum over ranks, best first, of weights[t, rank] * expert(ids[t, rank])(x[t]))
//                + sigmoid(shared_gate[t]) * shared(x[t])
// with expert(x) = down (silu(gate x) * (up x)). Leaves in `grouping` who met in which expert.
void run_experts(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                 const ExpertStep& step);
size_t experts_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used, int threads);

}  // namespace tandem::moe
