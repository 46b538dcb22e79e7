// Weight names and forward of the feed-forward half.
#include "models/feed_forward.h"

#include <algorithm>

#include "ops/elementwise.h"
#include "ops/linear.h"

namespace tandem::models {
namespace {

using ops::Workspace;

void dense_forward(ops::Context& ctx, const DenseFeedForward& w, const float* x, int64_t tokens,
                   float* y) {
  const int64_t hidden = w.down.cols();
  Workspace::Scope scope(ctx.workspace);
  float* gate = scope.floats(static_cast<size_t>(tokens * hidden));  // [T, F]
  float* up = scope.floats(static_cast<size_t>(tokens * hidden));    // [T, F]

  ops::linear(ctx, x, tokens, {{w.gate, {}, gate}, {w.up, {}, up}});
  ops::silu_mul(ctx, gate, up, gate, tokens, hidden);
  ops::linear(ctx, gate, tokens, {{w.down, {}, y}});
}

size_t dense_workspace_bytes(const DenseFeedForward& w, int64_t tokens) {
  const int64_t hidden = w.down.cols();
  return 2 * Workspace::aligned(static_cast<size_t>(tokens * hidden) * sizeof(float)) +
         ops::linear_workspace_bytes(tokens, std::max(hidden, w.gate.cols()));
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
  ffn.experts = {.gate = layer.matrix("ffn_gate_exps.weight", shape(experts, f, hidden)),
                 .up = layer.matrix("ffn_up_exps.weight", shape(experts, f, hidden)),
                 .down = layer.matrix("ffn_down_exps.weight", shape(experts, hidden, f))};
  if (moe.shared_hidden > 0) {
    const int64_t shared = moe.shared_hidden;
    ffn.dense = {.gate = layer.matrix("ffn_gate_shexp.weight", shape(shared, hidden)),
                 .up = layer.matrix("ffn_up_shexp.weight", shape(shared, hidden)),
                 .down = layer.matrix("ffn_down_shexp.weight", shape(hidden, shared))};
    ffn.shared_gate = layer.optional_matrix("ffn_gate_inp_shexp.weight", shape(hidden));
  }
  return ffn;
}

int64_t feed_forward(ops::Context& ctx, const FeedForward& ffn, moe::Grouping& grouping,
                     const float* x, int64_t tokens, float* y) {
  if (!ffn.router) {
    dense_forward(ctx, ffn.dense, x, tokens, y);
    return 0;
  }
  const moe::RoutingConfig& routing = ffn.routing;
  const int64_t hidden = ffn.router.cols();
  Workspace::Scope scope(ctx.workspace);
  float* logits = scope.floats(static_cast<size_t>(tokens * routing.experts));  // [T, E]
  float* weights = scope.floats(static_cast<size_t>(tokens * routing.used));    // [T, K]
  auto* ids = reinterpret_cast<int32_t*>(
      scope.bytes(static_cast<size_t>(tokens * routing.used) * sizeof(int32_t)));  // [T, K]

  ops::linear(ctx, x, tokens, {{ffn.router, {}, logits}});
  moe::route(ctx, routing, logits, tokens, ids, weights);
  moe::run_experts(ctx, ffn.experts, grouping, x, ids, weights, tokens, routing.used, y);
  const int64_t bytes =
      static_cast<int64_t>(grouping.active.size()) * ffn.experts.bytes_per_expert();
  if (!ffn.dense.gate) return bytes;

  float* shared = scope.floats(static_cast<size_t>(tokens * hidden));  // [T, M]
  dense_forward(ctx, ffn.dense, x, tokens, shared);
  if (ffn.shared_gate) {
    float* gate = scope.floats(static_cast<size_t>(tokens));  // [T, 1]
    ops::linear(ctx, x, tokens, {{ffn.shared_gate, {}, gate}});
    ops::scale_by_sigmoid(ctx, gate, shared, tokens, hidden);
  }
  ops::add_to(ctx, y, shared, tokens, hidden);
  return bytes;
}

size_t feed_forward_workspace_bytes(const FeedForward& ffn, int64_t tokens) {
  if (!ffn.router) return dense_workspace_bytes(ffn.dense, tokens);
  const int64_t hidden = ffn.router.cols();
  const auto floats = [&](int64_t per_token) {
    return Workspace::aligned(static_cast<size_t>(tokens * per_token) * sizeof(float));
  };
  const size_t routing = floats(ffn.routing.experts) + 2 * floats(ffn.routing.used);
  const size_t routed = moe::experts_workspace_bytes(ffn.experts, tokens, ffn.routing.used);
  size_t shared = 0;
  if (ffn.dense.gate) {
    shared = floats(hidden) + floats(1) + dense_workspace_bytes(ffn.dense, tokens);
  }
  return routing + ops::linear_workspace_bytes(tokens, hidden) + std::max(routed, shared);
}

}  // namespace tandem::models
