// The feed-forward half of a layer: a dense gated network, or routed experts with an optional
// shared expert.
#pragma once

#include "models/config.h"
#include "models/weights.h"
#include "moe/experts.h"

namespace tandem::models {

struct FeedForward {
  moe::ExpertWeights dense;  // of a dense layer: gate and up [F, M], down [M, F]
  Tensor router;             // [E, M] none: the layer is dense
  Tensor shared_gate;        // [1, M] its sigmoid scales the shared expert (qwen2moe), or none
  moe::RoutingConfig routing;
  moe::ExpertLayer experts;
};

FeedForward load_feed_forward(const Weights& layer, const ModelConfig& config, int layer_index);

// residual += feed_forward(h). h, residual: [T, M]; h is overwritten. Returns the bytes of
// routed experts' weights that were read.
int64_t feed_forward(ops::Context& ctx, const FeedForward& ffn, moe::Grouping& grouping,
                     ops::Features h, int64_t tokens, float* residual);
size_t feed_forward_workspace_bytes(const FeedForward& ffn, int64_t tokens, int threads);
// Of the host, for routed experts in its memory beside activations on a GPU.
size_t feed_forward_host_workspace_bytes(const FeedForward& ffn, int64_t tokens, int threads);

}  // namespace tandem::models
