// Weight names and forward of the feed-forward half.
#include "models/feed_forward.h"

#include <algorithm>

#include "moe/gpu_experts.h"
#include "ops/linear.h"

namespace tandem::models {
namespace {

using ops::Workspace;

void dense_forward(ops::Context& ctx, const moe::ExpertWeights& w, ops::Features h, int64_t tokens,
                   float* residual) {
  ops::feed_forward(ctx, h, tokens, w.gate, w.up, {.w = w.down, .y = h.f32, .residual = residual});
}

}  // namespace

FeedForward load_feed_forward(const Weights& layer, const ModelConfig& config, int layer_index) {
  const int64_t hidden = config.hidden;
  const MoeConfig& moe = config.moe;
  FeedForward ffn;
  if (moe.routing.experts == 0 || layer_index < moe.leading_dense_layers) {
    const int64_t f = config.ffn_hidden;
    ffn.dense = {.gate = layer.matrix("ffn_gate.weight", shape(f, hidden)),
                 .up = layer.matrix("ffn_up.weight", shape(f, hidden)),
                 .down = layer.matrix("ffn_down.weight", shape(hidden, f))};
    return ffn;
  }
  const int64_t experts = moe.routing.experts;
  const int64_t f = moe.expert_hidden;
  ffn.routing = moe.routing;
  ffn.router = layer.matrix("ffn_gate_inp.weight", shape(experts, hidden));
  if (const Tensor bias = layer.optional_vector("exp_probs_b.bias", experts)) {
    ffn.routing.selection_bias = bias.f32();
  }
  ffn.experts.routed = {.gate = layer.matrix("ffn_gate_exps.weight", shape(experts, f, hidden)),
                        .up = layer.matrix("ffn_up_exps.weight", shape(experts, f, hidden)),
                        .down = layer.matrix("ffn_down_exps.weight", shape(experts, hidden, f))};
  ffn.experts.last = layer_index + 1 == config.layers;
  if (moe.shared_hidden > 0) {
    const int64_t shared = moe.shared_hidden;
    ffn.experts.shared = {.gate = layer.matrix("ffn_gate_shexp.weight", shape(shared, hidden)),
                          .up = layer.matrix("ffn_up_shexp.weight", shape(shared, hidden)),
                          .down = layer.matrix("ffn_down_shexp.weight", shape(hidden, shared))};
    ffn.shared_gate = layer.optional_matrix("ffn_gate_inp_shexp.weight", shape(hidden));
  }
  return ffn;
}

int64_t feed_forward(ops::Context& ctx, const FeedForward& ffn, moe::Grouping& grouping,
                     ops::Features h, int64_t tokens, float* residual) {
  if (!ffn.router) {
    dense_forward(ctx, ffn.dense, h, tokens, residual);
    return 0;
  }
  const moe::RoutingConfig& routing = ffn.routing;
  Workspace::Scope scope(ctx.workspace);
  float* logits = scope.floats(static_cast<size_t>(tokens * routing.experts));  // [T, E]
  float* weights = scope.floats(static_cast<size_t>(tokens * routing.used));    // [T, K]
  auto* ids = reinterpret_cast<int32_t*>(
      scope.bytes(static_cast<size_t>(tokens * routing.used) * sizeof(int32_t)));  // [T, K]
  float* shared_gate = nullptr;                                                    // [T, 1]

  if (ffn.shared_gate) {
    shared_gate = scope.floats(static_cast<size_t>(tokens));
    ops::linear(ctx, h, tokens,
                {{.w = ffn.router, .y = logits}, {.w = ffn.shared_gate, .y = shared_gate}});
  } else {
    ops::linear(ctx, h, tokens, {{.w = ffn.router, .y = logits}});
  }
  moe::route(ctx, routing, logits, tokens, ids, weights);
  moe::run_experts(ctx, ffn.experts, grouping,
                   {.x = h.f32,
                    .x_rounded = h.rounded,
                    .ids = ids,
                    .weights = weights,
                    .shared_gate = shared_gate,
                    .tokens = tokens,
                    .used = routing.used,
                    .residual = residual});
  return static_cast<int64_t>(grouping.active.size()) * ffn.experts.routed.bytes_per_expert();
}

size_t feed_forward_workspace_bytes(const FeedForward& ffn, int64_t tokens, int threads) {
  if (!ffn.router) return ops::feed_forward_workspace_bytes(tokens, ffn.dense.gate, threads);
  const auto floats = [&](int64_t per_token) {
    return Workspace::aligned(static_cast<size_t>(tokens * per_token) * sizeof(float));
  };
  const size_t routing = floats(ffn.routing.experts) + 2 * floats(ffn.routing.used) + floats(1);
  const size_t experts =
      ffn.router.device == Device::kCuda
          ? moe::experts_beside_gpu_workspace_bytes(ffn.experts, tokens, ffn.routing.used)
          : moe::experts_workspace_bytes(ffn.experts, tokens, ffn.routing.used, threads);
  return routing +
         std::max(ops::linear_workspace_bytes(tokens, ffn.router.cols(), threads), experts);
}

size_t feed_forward_host_workspace_bytes(const FeedForward& ffn, int64_t tokens, int threads) {
  if (!ffn.router || ffn.router.device == Device::kCpu ||
      ffn.experts.routed.gate.device == Device::kCuda) {
    return 0;
  }
  // Deferring copies the ids and weights of some ranks.
  const size_t ranks =
      Workspace::aligned(static_cast<size_t>(tokens * ffn.routing.used) * sizeof(float));
  return 2 * ranks + moe::experts_workspace_bytes({.routed = ffn.experts.routed, .shared = {}},
                                                  tokens, ffn.routing.used, threads);
}

}  // namespace tandem::models
