// The feed-forward half of a layer: a dense gated network, or routed experts with an optional
// shared expert.
#pragma once

#include "models/config.h"
#include "models/weights.h"
#include "moe/experts.h"

namespace tandem::models {

struct DenseFeedForward {
  Tensor gate;  // [F, M]
  Tensor up;    // [F, M]
  Tensor down;  // [M, F]
};

struct FeedForward {
  DenseFeedForward
      dense;           // of a dense layer, or the shared expert of a routed one; may be empty there
  Tensor shared_gate;  // [1, M] its sigmoid scales the shared expert's output (qwen2moe), or none
  Tensor router;       // [E, M] none: the layer is dense
  moe::RoutingConfig routing;
  moe::ExpertWeights experts;
};

FeedForward load_feed_forward(const Weights& layer, const ModelConfig& config, int layer_index);

// y = feed_forward(x). x, y: [T, M] f32. Returns the bytes of routed experts' weights that were
// read.
int64_t feed_forward(ops::Context& ctx, const FeedForward& ffn, moe::Grouping& grouping,
                     const float* x, int64_t tokens, float* y);
size_t feed_forward_workspace_bytes(const FeedForward& ffn, int64_t tokens);

}  // namespace tandem::models
