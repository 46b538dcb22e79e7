// Sums over the file's tensors.
#include "models/model_sizes.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "models/placement.h"
#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::models {
namespace {

// Of a GPU beside weights, cache and scratch: attention's partial results, graphs, the kernels'
// code, and buffers of libraries.
constexpr int64_t kGpuReserve = int64_t{1} << 30;

void add(Macs& macs, const Tensor& w, double share) {
  const double count = static_cast<double>(w.rows()) * static_cast<double>(w.cols()) * share;
  switch (quant::traits(w.dtype).activation) {
    case quant::ActivationFormat::kF32:
      macs.floats += count;
      break;
    case quant::ActivationFormat::kA32:
      macs.a32 += count;
      break;
    case quant::ActivationFormat::kA256:
      macs.a256 += count;
      break;
  }
}

// In memory. The joint key and value matrix of older files is decoded to float32 (models/deepseek),
// and where a file has its halves too it is not loaded.
int64_t loaded_bytes(const gguf::File& file, const gguf::TensorInfo& info) {
  constexpr std::string_view kJoint = "attn_kv_b.weight";
  if (!info.name.ends_with(kJoint)) return static_cast<int64_t>(info.bytes);
  const std::string layer(info.name.substr(0, info.name.size() - kJoint.size()));
  if (file.find_tensor(layer + "attn_k_b.weight") != nullptr) return 0;
  return info.tensor.rows() * info.tensor.cols() * int64_t{sizeof(float)};
}

void add_tensor(const gguf::File& file, const gguf::TensorInfo& info, double expert_share,
                LayerSizes& layer) {
  const int64_t bytes = loaded_bytes(file, info);
  if (bytes == 0) return;
  const bool matrix = info.tensor.rows() > 1;
  if (!is_routed_experts(info.name)) {
    layer.fixed_bytes += bytes;
    if (matrix) add(layer.fixed, info.tensor, 1.0);
    return;
  }
  layer.experts_bytes += bytes;
  add(layer.experts, info.tensor, expert_share);
  if (!quant::has_panels(info.tensor.dtype)) {
    layer.without_gpu_kernels = quant::traits(info.tensor.dtype).name;
  }
}

int64_t cache_row(const ModelConfig& c) {
  return c.mla.kv_lora > 0 ? c.key_dim : int64_t{c.kv_heads} * (c.key_dim + c.value_dim);
}

// Values of a token that are alive at once: the residual stream and its norm, and the larger half
// of a layer. In a half of experts each of a token's K has its input, its hidden and its output.
int64_t floats_per_token(const ModelConfig& c) {
  const int64_t hidden = c.hidden, heads = c.heads;
  const int64_t attention =
      heads * (2 * int64_t{c.key_dim} + 2 * int64_t{c.value_dim}) + cache_row(c) +
      (c.mla.kv_lora > 0 ? heads * (c.mla.nope_dim + c.mla.rope_dim + c.mla.value_dim) : 0);
  const int64_t dense = 2 * int64_t{c.ffn_hidden};
  const int64_t experts = c.moe.routing.experts +
                          c.moe.routing.used * (2 * int64_t{c.moe.expert_hidden} + hidden) +
                          2 * int64_t{c.moe.shared_hidden} + 2 * hidden;
  return 2 * hidden + c.rope.dims + std::max({attention, dense, experts});
}

}  // namespace

int64_t ModelSizes::fixed_bytes() const {
  int64_t bytes = embedding_bytes + (tied ? 0 : output_bytes);
  for (const LayerSizes& layer : layers) bytes += layer.fixed_bytes;
  return bytes;
}

int64_t ModelSizes::experts_bytes() const {
  int64_t bytes = 0;
  for (const LayerSizes& layer : layers) bytes += layer.experts_bytes;
  return bytes;
}

ModelSizes sizes_of(const gguf::File& file, const ModelConfig& config, const StepLimits& limits) {
  ModelSizes sizes;
  const moe::RoutingConfig& routing = config.moe.routing;
  sizes.layers.resize(static_cast<size_t>(config.layers));
  sizes.experts = routing.experts;
  sizes.used = routing.used;
  const double share =
      routing.experts > 0 ? static_cast<double>(routing.used) / routing.experts : 1.0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const int layer = layer_of(info.name);
    if (layer < 0 || layer >= config.layers) continue;
    add_tensor(file, info, share, sizes.layers[static_cast<size_t>(layer)]);
  }
  const gguf::TensorInfo* table = file.find_tensor("token_embd.weight");
  const gguf::TensorInfo* output = file.find_tensor("output.weight");
  sizes.tied = output == nullptr;
  if (sizes.tied) output = table;
  if (table != nullptr) sizes.embedding_bytes = static_cast<int64_t>(table->bytes);
  if (output != nullptr) {
    sizes.output_bytes = static_cast<int64_t>(output->bytes);
    add(sizes.output, output->tensor, 1.0);
  }
  const int64_t value_bytes = limits.kv_type == DType::kF32 ? 4 : 2;
  sizes.cache_bytes_per_token = cache_row(config) * config.layers * value_bytes;
  sizes.attention_macs_per_key =
      int64_t{config.layers} * config.heads * (config.key_dim + config.value_dim);
  sizes.page_size =
      limits.page_size != 0 ? limits.page_size : default_page_size(config.mla.kv_lora > 0);
  const int64_t tokens = std::max(limits.tokens, limits.sequences);
  const int64_t scratch = tokens * floats_per_token(config) * int64_t{sizeof(float)};
  const int64_t logits = int64_t{limits.sequences} * config.vocab * int64_t{sizeof(float)};
  // Attention's queries and outputs in 16 bits.
  const int64_t attention = tokens * config.heads * (config.key_dim + config.value_dim) * 2;
  sizes.gpu_work_bytes = scratch + attention + logits + kGpuReserve;
  sizes.host_work_bytes = scratch + logits;
  return sizes;
}

}  // namespace tandem::models
