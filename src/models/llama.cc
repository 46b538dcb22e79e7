// Grouped-query attention. The architectures differ in optional weights only: biases of q, k, v
// (qwen2) and norms of each head's query and key (qwen3); what a file lacks is not applied.
#include "models/llama.h"

#include <algorithm>

#include "base/error.h"
#include "ops/prepared_attention.h"

namespace tandem::models {
namespace {

using ops::Workspace;

struct AttentionWeights {
  Tensor q, q_bias;  // [H * D, M], [H * D]
  Tensor k, k_bias;  // [Hk * D, M], [Hk * D]
  Tensor v, v_bias;  // [Hk * D, M], [Hk * D]
  Tensor q_norm;     // [D]
  Tensor k_norm;     // [D]
  Tensor output;     // [M, H * D]
};

class Llama : public Decoder {
 public:
  Llama(const gguf::File& file, ModelConfig config, const Placement& placement)
      : Decoder(file, std::move(config), placement) {
    const ModelConfig& c = config_;
    const int64_t q_width = int64_t{c.heads} * c.key_dim;
    const int64_t k_width = int64_t{c.kv_heads} * c.key_dim;
    const int64_t v_width = int64_t{c.kv_heads} * c.value_dim;
    for (int i = 0; i < c.layers; ++i) {
      const Weights layer = layer_weights(i);
      layers_.push_back({
          .q = layer.matrix("attn_q.weight", shape(q_width, c.hidden)),
          .q_bias = layer.optional_vector("attn_q.bias", q_width),
          .k = layer.matrix("attn_k.weight", shape(k_width, c.hidden)),
          .k_bias = layer.optional_vector("attn_k.bias", k_width),
          .v = layer.matrix("attn_v.weight", shape(v_width, c.hidden)),
          .v_bias = layer.optional_vector("attn_v.bias", v_width),
          .q_norm = layer.optional_vector("attn_q_norm.weight", c.key_dim),
          .k_norm = layer.optional_vector("attn_k_norm.weight", c.key_dim),
          .output = layer.matrix("attn_output.weight", shape(c.hidden, c.heads * c.value_dim)),
      });
    }
  }

  ops::KvLayer cache_form() const override {
    return {.data = nullptr,
            .dtype = DType::kF16,
            .page_size = 0,
            .page_bytes = 0,
            .kv_heads = config_.kv_heads,
            .key_dim = config_.key_dim,
            .value_dim = config_.value_dim,
            .shared_values = false};
  }

 private:
  void attention(ops::Context& ctx, int layer, const Step& step, const ops::KvLayer& cache,
                 ops::Features h, float* residual) override {
    const ModelConfig& c = config_;
    const AttentionWeights& w = layers_[static_cast<size_t>(layer)];
    const int64_t tokens = step.where.tokens;
    const int64_t dim = c.key_dim;
    Workspace::Scope scope(ctx.workspace);
    float* q = scope.floats(static_cast<size_t>(tokens * c.heads * dim));             // [T, H, D]
    float* k = scope.floats(static_cast<size_t>(tokens * c.kv_heads * dim));          // [T, Hk, D]
    float* v = scope.floats(static_cast<size_t>(tokens * c.kv_heads * c.value_dim));  // [T, Hk, D]
    const ops::Features out =
        ops::take_features(ctx, scope, tokens, c.heads * c.value_dim);  // [T, H, D]

    ops::linear(ctx, h, tokens,
                {{.w = w.q, .bias = w.q_bias, .y = q},
                 {.w = w.k, .bias = w.k_bias, .y = k},
                 {.w = w.v, .bias = w.v_bias, .y = v}});
    ops::grouped_attention(ctx, cache, step.where,
                           {.q = q,
                            .k = k,
                            .v = v,
                            .q_norm = w.q_norm,
                            .k_norm = w.k_norm,
                            .epsilon = c.norm_epsilon,
                            .rotations = {c.rope, step.rope_table},
                            .heads = c.heads,
                            .scale = c.attention_scale},
                           out);
    ops::linear(ctx, out, tokens, {{.w = w.output, .y = h.f32, .residual = residual}});
  }

  size_t attention_half_bytes(int64_t tokens, const ops::KvLayer& cache,
                              int threads) const override {
    const ModelConfig& c = config_;
    const auto floats = [&](int64_t per_token) {
      return Workspace::aligned(static_cast<size_t>(tokens * per_token) * sizeof(float));
    };
    const int64_t widest = std::max(c.hidden, c.heads * c.value_dim);
    return floats(int64_t{c.heads} * c.key_dim) + floats(int64_t{c.kv_heads} * c.key_dim) +
           floats(int64_t{c.kv_heads} * c.value_dim) +
           ops::features_bytes(tokens, int64_t{c.heads} * c.value_dim) +
           std::max(ops::linear_workspace_bytes(tokens, widest, threads),
                    ops::attention_workspace_bytes(cache, tokens, threads));
  }

  std::vector<AttentionWeights> layers_;
};

}  // namespace

std::unique_ptr<Decoder> create_llama(const gguf::File& file, ModelConfig config,
                                      const Placement& placement) {
  return std::make_unique<Llama>(file, std::move(config), placement);
}

}  // namespace tandem::models
