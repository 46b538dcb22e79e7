// The parts that all decoders share: embedding, layer loop, output head.
#include "models/model.h"

#include <algorithm>

#include "models/deepseek.h"
#include "models/llama.h"
#include "moe/gpu_experts.h"
#include "ops/elementwise.h"
#include "quant/types.h"

namespace tandem::models {

using ops::Workspace;

namespace {

// All tensors but stacks of routed experts, and but the embedding table, of which a step reads
// single rows; where it is the output matrix too, it is read as that.
int64_t fixed_bytes(const gguf::File& file) {
  const bool tied = file.find_tensor("output.weight") == nullptr;
  int64_t bytes = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    if (is_routed_experts(info.name)) continue;
    if (info.name == "token_embd.weight" && !tied) continue;
    bytes += static_cast<int64_t>(info.bytes);
  }
  return bytes;
}

}  // namespace

Decoder::Decoder(const gguf::File& file, ModelConfig config, const Placement& placement)
    : config_(std::move(config)),
      file_(file),
      store_(file, placement),
      fixed_weight_bytes_(fixed_bytes(file)) {
  const Weights global = weights();
  const Shape table = shape(config_.vocab, config_.hidden);
  embedding_ = global.matrix("token_embd.weight", table);
  output_norm_ = global.vector("output_norm.weight", config_.hidden);
  output_ = load_output(global, table, placement);
  if (global.has("rope_freqs.weight")) {
    rope_factors_ = global.host_vector("rope_freqs.weight", config_.rope.dims / 2);
    config_.rope.factors = rope_factors_.data();
  }
  host_rope_frequencies_ = store_.keep(ops::rope_frequencies(config_.rope), Device::kCpu);
  if (placement.gpu != nullptr) {
    gpu_rope_frequencies_ = store_.keep(ops::rope_frequencies(config_.rope), Device::kCuda);
  }
  for (int i = 0; i < config_.layers; ++i) {
    const Weights layer = layer_weights(i);
    layers_.push_back({.attention_norm = layer.vector("attn_norm.weight", config_.hidden),
                       .ffn_norm = layer.vector("ffn_norm.weight", config_.hidden),
                       .ffn = load_feed_forward(layer, config_, i)});
  }
}

// The table again where the file has no other; a second one where the embedding is elsewhere.
Tensor Decoder::load_output(const Weights& global, const Shape& table,
                            const Placement& placement) const {
  if (global.has("output.weight")) return global.matrix("output.weight", table);
  const Device device = placement.of_layer(config_.layers);
  if (embedding_.device == device) return embedding_;
  return global.copy_of_matrix("token_embd.weight", table, device);
}

void Decoder::forward(ops::Context& ctx, const ForwardBatch& batch,
                      std::span<const ops::KvLayer> cache, LayerRange layers) {
  const int64_t tokens = batch.where.tokens;
  const int64_t hidden = config_.hidden;
  const float epsilon = config_.norm_epsilon;
  Workspace::Scope scope(ctx.workspace);
  const bool ends = layers.end > config_.layers;
  float* x = layers.begin == 0 && ends ? scope.floats(static_cast<size_t>(tokens * hidden))
                                       : batch.residual;                   // [T, M] residual stream
  const ops::Features h = ops::take_features(ctx, scope, tokens, hidden);  // [T, M] normalised
  float* rope_table = scope.floats(static_cast<size_t>(tokens * config_.rope.dims));
  const Step step{batch.where, rope_table};
  const ops::RowsView normalised = {h.f32, hidden, h.rounded};

  step_weight_bytes_ = fixed_weight_bytes_;
  if (batch.outputs == 0) {
    step_weight_bytes_ -= output_.rows() * quant::row_bytes(output_.dtype, output_.cols());
  }
  if (layers.begin == 0) ops::embed(ctx, embedding_, batch.ids, tokens, x);
  ops::fill_rope_table(ctx, config_.rope,
                       ctx.gpu == nullptr ? host_rope_frequencies_ : gpu_rope_frequencies_,
                       batch.where.positions, tokens, rope_table);

  for (int i = layers.begin; i < std::min(layers.end, config_.layers); ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    ops::rms_norm(ctx, {x, hidden}, tokens, layer.attention_norm, epsilon, normalised);
    attention(ctx, i, step, cache[static_cast<size_t>(i)], h, x);

    ops::rms_norm(ctx, {x, hidden}, tokens, layer.ffn_norm, epsilon, normalised);
    step_weight_bytes_ += feed_forward(ctx, layer.ffn, grouping_, h, tokens, x);
  }

  if (!ends || batch.outputs == 0) return;
  ops::gather_rows(ctx, x, batch.output_rows, batch.outputs, hidden, h.f32);
  ops::rms_norm(ctx, {h.f32, hidden}, batch.outputs, output_norm_, epsilon, normalised);
  const ops::Profile::Scope timed(ctx.profile, ops::Op::kOutput);
  ops::linear(ctx, h, batch.outputs, {{.w = output_, .y = batch.logits}});
}

void Decoder::run_feed_forward(ops::Context& ctx, int layer, const int32_t* ids, int64_t tokens) {
  const Layer& l = layers_[static_cast<size_t>(layer)];
  const int64_t hidden = config_.hidden;
  Workspace::Scope scope(ctx.workspace);
  float* x = scope.floats(static_cast<size_t>(tokens * hidden));           // [T, M]
  const ops::Features h = ops::take_features(ctx, scope, tokens, hidden);  // [T, M]
  // Rows of the output matrix where the embedding is on the CPU: as different from each other.
  const bool reads_embedding = (embedding_.device == Device::kCuda) == (ctx.gpu != nullptr);
  ops::embed(ctx, reads_embedding ? embedding_ : output_, ids, tokens, x);
  ops::rms_norm(ctx, {x, hidden}, tokens, l.ffn_norm, config_.norm_epsilon,
                {h.f32, hidden, h.rounded});
  feed_forward(ctx, l.ffn, grouping_, h, tokens, x);
}

bool Decoder::can_stream(int layer) const {
  return store_.placement().of_layer(layer) == Device::kCuda && routed_experts(layer).gate &&
         moe::streamable(routed_experts(layer));
}

void Decoder::stream_from(int layer, int64_t tokens) {
  layers_[static_cast<size_t>(layer)].ffn.experts.stream_from = tokens;
}

size_t Decoder::workspace_bytes(int64_t tokens, int64_t outputs, const ops::KvLayer& cache,
                                int threads, LayerRange layers) const {
  const auto floats = [](int64_t count) {
    return Workspace::aligned(static_cast<size_t>(count) * sizeof(float));
  };
  size_t half = std::max(attention_half_bytes(tokens, cache, threads),
                         ops::linear_workspace_bytes(outputs, config_.hidden, threads));
  for (int i = layers.begin; i < std::min(layers.end, config_.layers); ++i) {
    half = std::max(
        half, feed_forward_workspace_bytes(layers_[static_cast<size_t>(i)].ffn, tokens, threads));
  }
  return floats(tokens * config_.hidden) + ops::features_bytes(tokens, config_.hidden) +
         floats(tokens * config_.rope.dims) + half;
}

std::vector<Decoder::HostExperts> Decoder::experts_in_host_memory() const {
  std::vector<HostExperts> list;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const int layer = static_cast<int>(i);
    if (!can_stream(layer)) continue;
    const moe::ExpertWeights& w = routed_experts(layer);
    list.push_back({layer, &w.gate, &w.up, &w.down});
  }
  return list;
}

size_t Decoder::host_workspace_bytes(int64_t tokens, int threads) const {
  size_t bytes = 0;
  for (const Layer& layer : layers_) {
    bytes = std::max(bytes, feed_forward_host_workspace_bytes(layer.ffn, tokens, threads));
  }
  return bytes;
}

std::unique_ptr<Decoder> create_decoder(const gguf::File& file, int64_t max_tokens,
                                        const Placement& placement) {
  ModelConfig config = read_config(file);
  std::unique_ptr<Decoder> decoder;
  if (config.mla.kv_lora > 0) {
    decoder = create_deepseek(file, std::move(config), placement);
  } else {
    decoder = create_llama(file, std::move(config), placement);
  }
  const moe::RoutingConfig& routing = decoder->config().moe.routing;
  if (routing.experts > 0) {
    decoder->grouping_.reserve(max_tokens, routing.experts, routing.used);
  }
  return decoder;
}

}  // namespace tandem::models
