// Multi-head latent attention in its absorbed form: the cache keeps one compressed row per token,
// queries are taken into its space by k_b and outputs brought back by v_b. Prefill uses the same
// form as decode, so that a token's bits do not depend on how its prompt was cut into chunks.
//
//   cached row of a token: compressed key/value [kv_lora] | rotated key part [rope], shared by all
//   heads query of a head:       k_b^T q_nope         [kv_lora] | rotated query part [rope]
#include "models/deepseek.h"

#include <algorithm>

#include "base/error.h"
#include "ops/elementwise.h"
#include "ops/prepared_attention.h"
#include "quant/panels.h"

namespace tandem::models {
namespace {

using ops::Workspace;

struct MlaWeights {
  Tensor q;          // [H * (nope + rope), M or q_lora]
  Tensor q_a;        // [q_lora, M], none without the bottleneck
  Tensor q_a_norm;   // [q_lora]
  Tensor kv_a;       // [kv_lora + rope, M]
  Tensor kv_a_norm;  // [kv_lora]
  Tensor k_b;        // [H, kv_lora, nope]
  Tensor v_b;        // [H, value, kv_lora]
  Tensor output;     // [M, H * value]
};

// The joint kv_b [H, nope + value, kv_lora] of older files: its key rows transposed, its value
// rows, decoded to float32, which loses nothing.
void split_joint_kv_b(const Weights& layer, const ModelConfig& c, MlaWeights& w) {
  const int64_t heads = c.heads, rank = c.mla.kv_lora, nope = c.mla.nope_dim,
                value = c.mla.value_dim;
  constexpr const char* kJoint = "attn_kv_b.weight";
  const Weights::Rows joint = layer.rows(kJoint, shape(heads * (nope + value), rank));
  std::vector<float> k_b(static_cast<size_t>(heads * rank * nope));
  std::vector<float> v_b(static_cast<size_t>(heads * value * rank));
  std::vector<float> row(static_cast<size_t>(rank));
  int64_t source = 0;  // row of the joint matrix
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < nope; ++i) {
      quant::dequantize_row(joint.matrix, source++, row.data());
      for (int64_t r = 0; r < rank; ++r)
        k_b[static_cast<size_t>((h * rank + r) * nope + i)] = row[static_cast<size_t>(r)];
    }
    for (int64_t i = 0; i < value; ++i) {
      quant::dequantize_row(joint.matrix, source++, v_b.data() + (h * value + i) * rank);
    }
  }
  w.k_b = layer.keep(kJoint, std::move(k_b), shape(heads, rank, nope));
  w.v_b = layer.keep(kJoint, std::move(v_b), shape(heads, value, rank));
}

class DeepSeek : public Decoder {
 public:
  DeepSeek(const gguf::File& file, ModelConfig config, const Placement& placement)
      : Decoder(file, std::move(config), placement) {
    for (int i = 0; i < config_.layers; ++i) layers_.push_back(load_layer(layer_weights(i)));
  }

  ops::KvLayer cache_form() const override {
    return {.data = nullptr,
            .dtype = DType::kF16,
            .page_size = 0,
            .page_bytes = 0,
            .kv_heads = 1,
            .key_dim = config_.key_dim,
            .value_dim = config_.value_dim,
            .shared_values = true};
  }

 private:
  MlaWeights load_layer(const Weights& layer) const {
    const ModelConfig& c = config_;
    const MlaConfig& mla = c.mla;
    const int64_t q_width = int64_t{c.heads} * (mla.nope_dim + mla.rope_dim);
    MlaWeights w;
    if (mla.q_lora > 0) {
      w.q_a = layer.matrix("attn_q_a.weight", shape(mla.q_lora, c.hidden));
      w.q_a_norm = layer.vector("attn_q_a_norm.weight", mla.q_lora);
      w.q = layer.matrix("attn_q_b.weight", shape(q_width, mla.q_lora));
    } else {
      w.q = layer.matrix("attn_q.weight", shape(q_width, c.hidden));
    }
    w.kv_a = layer.matrix("attn_kv_a_mqa.weight", shape(c.key_dim, c.hidden));
    w.kv_a_norm = layer.vector("attn_kv_a_norm.weight", mla.kv_lora);
    if (layer.has("attn_kv_b.weight") && !layer.has("attn_k_b.weight")) {
      split_joint_kv_b(layer, c, w);
    } else {
      w.k_b = layer.matrix("attn_k_b.weight", shape(c.heads, mla.kv_lora, mla.nope_dim));
      w.v_b = layer.matrix("attn_v_b.weight", shape(c.heads, mla.value_dim, mla.kv_lora));
    }
    w.output = layer.matrix("attn_output.weight", shape(c.hidden, c.heads * mla.value_dim));
    return w;
  }

  void attention(ops::Context& ctx, int layer, const Step& step, const ops::KvLayer& cache,
                 ops::Features h, float* residual) override {
    const ModelConfig& c = config_;
    const MlaConfig& mla = c.mla;
    const MlaWeights& w = layers_[static_cast<size_t>(layer)];
    const int64_t tokens = step.where.tokens;
    const int64_t heads = c.heads, head_dim = mla.nope_dim + mla.rope_dim, row = c.key_dim;
    Workspace::Scope scope(ctx.workspace);
    const auto take = [&](int64_t n) { return ops::take_features(ctx, scope, tokens, n); };
    const ops::Features q = take(heads * head_dim);               // [T, H, nope + rope]
    float* kv = scope.floats(static_cast<size_t>(tokens * row));  // [T, kv_lora + rope]
    const ops::Features latent = take(heads * mla.kv_lora);       // [T, H, kv_lora]
    const ops::Features out = take(heads * mla.value_dim);        // [T, H, value]

    if (w.q_a) {
      const ops::Features q_a = take(mla.q_lora);  // [T, q_lora]
      ops::linear(ctx, h, tokens, {{.w = w.q_a, .y = q_a.f32}, {.w = w.kv_a, .y = kv}});
      ops::rms_norm(ctx, {q_a.f32, mla.q_lora}, tokens, w.q_a_norm, c.norm_epsilon,
                    {q_a.f32, mla.q_lora, q_a.rounded});
      ops::linear(ctx, q_a, tokens, {{.w = w.q, .y = q.f32, .rounded = q.rounded}});
    } else {
      ops::linear(ctx, h, tokens,
                  {{.w = w.q, .y = q.f32, .rounded = q.rounded}, {.w = w.kv_a, .y = kv}});
    }
    ops::latent_attention(ctx, cache, step.where,
                          {.q = q,
                           .kv = kv,
                           .kv_norm = w.kv_a_norm,
                           .k_b = w.k_b,
                           .epsilon = c.norm_epsilon,
                           .rotations = {c.rope, step.rope_table},
                           .heads = heads,
                           .nope = mla.nope_dim,
                           .scale = c.attention_scale},
                          latent);
    ops::linear_per_head(ctx, {latent.f32, heads * mla.kv_lora, mla.kv_lora, latent.rounded},
                         tokens, w.v_b,
                         {out.f32, heads * mla.value_dim, mla.value_dim, out.rounded});
    ops::linear(ctx, out, tokens, {{.w = w.output, .y = h.f32, .residual = residual}});
  }

  size_t attention_half_bytes(int64_t tokens, const ops::KvLayer& cache,
                              int threads) const override {
    const ModelConfig& c = config_;
    const MlaConfig& mla = c.mla;
    const MlaWeights& w = layers_[0];
    const auto floats = [&](int64_t per_token) {
      return Workspace::aligned(static_cast<size_t>(tokens * per_token) * sizeof(float));
    };
    const int64_t widest = std::max({c.hidden, mla.q_lora, c.heads * mla.value_dim});
    const auto features = [&](int64_t n) { return ops::features_bytes(tokens, n); };
    return features(int64_t{c.heads} * (mla.nope_dim + mla.rope_dim)) + floats(c.key_dim) +
           features(int64_t{c.heads} * mla.kv_lora) + features(int64_t{c.heads} * mla.value_dim) +
           features(mla.q_lora) + ops::latent_attention_bytes(tokens, c.heads, cache) +
           std::max({ops::linear_workspace_bytes(tokens, widest, threads),
                     ops::linear_per_head_workspace_bytes(tokens, w.k_b),
                     ops::linear_per_head_workspace_bytes(tokens, w.v_b),
                     ops::attention_workspace_bytes(cache, tokens, threads)});
  }

  std::vector<MlaWeights> layers_;
};

}  // namespace

std::unique_ptr<Decoder> create_deepseek(const gguf::File& file, ModelConfig config,
                                         const Placement& placement) {
  return std::make_unique<DeepSeek>(file, std::move(config), placement);
}

}  // namespace tandem::models
