// GGUF metadata -> ModelConfig, with the defaults of each architecture.
#include "models/config.h"

#include <array>
#include <cmath>
#include <string_view>

#include "base/error.h"

namespace tandem::models {
namespace {

struct ArchitectureTraits {
  std::string_view name;
  ops::RopeStyle rope_style;
  bool normalise_experts;  // when the file does not say
};
constexpr std::array<ArchitectureTraits, 6> kArchitectures = {{
    {"deepseek2", ops::RopeStyle::kInterleaved, false},
    {"llama", ops::RopeStyle::kInterleaved, true},
    {"qwen2", ops::RopeStyle::kHalves, false},
    {"qwen2moe", ops::RopeStyle::kHalves, false},
    {"qwen3", ops::RopeStyle::kHalves, false},
    {"qwen3moe", ops::RopeStyle::kHalves, true},
}};

const ArchitectureTraits& find_architecture(const gguf::File& file) {
  const std::string_view name = file.get_string("general.architecture");
  std::string known;
  for (const ArchitectureTraits& traits : kArchitectures) {
    if (traits.name == name) return traits;
    known += known.empty() ? "" : ", ";
    known += traits.name;
  }
  throw Error("{}: architecture '{}' is not supported; known are {}", file.path(), name, known);
}

// Reads the keys of one architecture ("deepseek2.block_count"), each checked against a range.
class Keys {
 public:
  Keys(const gguf::File& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  bool has(std::string_view name) const { return file_.find(key(name)) != nullptr; }

  int integer(std::string_view name, int lowest, int highest) const {
    return checked(name, scalar(name), lowest, highest);
  }
  int integer_or(std::string_view name, int fallback, int lowest, int highest) const {
    return has(name) ? integer(name, lowest, highest) : fallback;
  }
  float real_or(std::string_view name, float fallback) const {
    const auto value = static_cast<float>(file_.get_f64_or(key(name), fallback));
    if (!std::isfinite(value)) throw Error("{}: {} is {}", file_.path(), key(name), value);
    return value;
  }
  bool boolean_or(std::string_view name, bool fallback) const {
    return file_.get_bool_or(key(name), fallback);
  }
  std::string_view text_or(std::string_view name, std::string_view fallback) const {
    return file_.get_string_or(key(name), fallback);
  }
  [[noreturn]] void refuse(std::string_view name, std::string_view reason) const {
    throw Error("{}: {} {}", file_.path(), key(name), reason);
  }

 private:
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }

  // Some keys hold a number, or an array with one for each layer; arrays of equal numbers are taken
  // as one.
  uint64_t scalar(std::string_view name) const {
    const gguf::Entry* entry = file_.find(key(name));
    if (entry == nullptr || entry->type != gguf::ValueType::kArray) return file_.get_u64(key(name));
    const gguf::Array* array = file_.find_array(key(name));
    if (const auto* values = std::get_if<std::vector<uint64_t>>(&array->items)) {
      return first_of_equals(name, *values);
    }
    if (const auto* values = std::get_if<std::vector<int64_t>>(&array->items)) {
      return static_cast<uint64_t>(first_of_equals(name, *values));
    }
    refuse(name, "is not an array of integers");
  }

  template <typename T>
  T first_of_equals(std::string_view name, const std::vector<T>& values) const {
    if (values.empty()) refuse(name, "is an empty array");
    for (const T& value : values) {
      if (value != values[0]) refuse(name, "differs between layers, which is not supported");
    }
    return values[0];
  }

  int checked(std::string_view name, uint64_t value, int lowest, int highest) const {
    if (value < static_cast<uint64_t>(lowest) || value > static_cast<uint64_t>(highest)) {
      throw Error("{}: {} is {}, expected {} to {}", file_.path(), key(name), value, lowest,
                  highest);
    }
    return static_cast<int>(value);
  }

  const gguf::File& file_;
  std::string prefix_;
};

constexpr int kMaxDim = 1 << 20;
constexpr int kMaxHeads = 4096;

void read_rope(const Keys& keys, int default_dims, ModelConfig& config) {
  ops::RopeConfig& rope = config.rope;
  rope.dims = keys.integer_or("rope.dimension_count", default_dims, 2, kMaxDim);
  rope.base = keys.real_or("rope.freq_base", 10000.0F);
  if (rope.dims % 2 != 0) keys.refuse("rope.dimension_count", "is odd");
  if (rope.base <= 1.0F) keys.refuse("rope.freq_base", "is not above 1");
  const std::string_view type = keys.text_or("rope.scaling.type", "none");
  if (type != "none" && type != "linear" && type != "yarn") {
    keys.refuse("rope.scaling.type", "is not one of none, linear, yarn");
  }
  const float factor = type == "none" ? 1.0F : keys.real_or("rope.scaling.factor", 1.0F);
  if (factor <= 0.0F) keys.refuse("rope.scaling.factor", "is not positive");
  rope.scale = 1.0F / factor;
  rope.yarn = type == "yarn";
  rope.original_context =
      keys.integer_or("rope.scaling.original_context_length", config.context, 1, 1 << 30);
  rope.beta_fast = keys.real_or("rope.scaling.yarn_beta_fast", 32.0F);
  rope.beta_slow = keys.real_or("rope.scaling.yarn_beta_slow", 1.0F);
  rope.magnitude = keys.real_or("rope.scaling.attn_factor", 1.0F);
  if (rope.yarn && config.mla.kv_lora == 0) rope.magnitude *= 1.0F + 0.1F * std::log(factor);
}

// DeepSeek scales the softmax by mscale^2 instead of cos and sin: mscale = 1 + 0.1 * m *
// ln(factor), where the key holds 0.1 * m.
float mla_attention_scale(const Keys& keys, const ModelConfig& config) {
  const float key_width = std::sqrt(static_cast<float>(config.mla.nope_dim + config.mla.rope_dim));
  if (!config.rope.yarn) return 1.0F / key_width;
  const float log_multiplier = keys.real_or("rope.scaling.yarn_log_multiplier", 0.0F);
  const float mscale =
      config.rope.magnitude * (1.0F + log_multiplier * std::log(1.0F / config.rope.scale));
  return mscale * mscale / key_width;
}

void read_mla(const Keys& keys, ModelConfig& config) {
  MlaConfig& mla = config.mla;
  mla.q_lora = keys.integer_or("attention.q_lora_rank", 0, 0, kMaxDim);
  mla.kv_lora = keys.integer("attention.kv_lora_rank", 16, kMaxDim);
  read_rope(keys, 64, config);
  mla.rope_dim = config.rope.dims;
  // Files with a joint kv_b have the sizes of a head in key_length; those with split k_b and v_b in
  // *_mla.
  const char* key_length =
      keys.has("attention.key_length_mla") ? "attention.key_length_mla" : "attention.key_length";
  const char* value_length = keys.has("attention.value_length_mla") ? "attention.value_length_mla"
                                                                    : "attention.value_length";
  mla.nope_dim = keys.integer(key_length, mla.rope_dim + 1, kMaxDim) - mla.rope_dim;
  mla.value_dim = keys.integer(value_length, 1, kMaxDim);
  if (mla.kv_lora % 16 != 0) keys.refuse("attention.kv_lora_rank", "is no multiple of 16");
  if (mla.rope_dim % 16 != 0) keys.refuse("rope.dimension_count", "is no multiple of 16");
  config.kv_heads = 1;
  config.key_dim = mla.kv_lora + mla.rope_dim;
  config.value_dim = mla.kv_lora;
  config.attention_scale = mla_attention_scale(keys, config);
}

void read_gqa(const Keys& keys, ModelConfig& config) {
  config.kv_heads = keys.has("attention.head_count_kv")
                        ? keys.integer("attention.head_count_kv", 1, config.heads)
                        : config.heads;
  if (config.heads % config.kv_heads != 0) {
    keys.refuse("attention.head_count_kv", "does not divide the number of heads");
  }
  if (!keys.has("attention.key_length") && config.hidden % config.heads != 0) {
    keys.refuse("embedding_length", "is no multiple of the number of heads");
  }
  const int head_dim = config.hidden / config.heads;
  config.key_dim = keys.integer_or("attention.key_length", head_dim, 1, kMaxDim);
  config.value_dim = keys.integer_or("attention.value_length", head_dim, 1, kMaxDim);
  if (config.key_dim % 16 != 0 || config.value_dim % 16 != 0) {
    keys.refuse("attention.key_length", "or value_length is no multiple of 16");
  }
  read_rope(keys, config.key_dim, config);
  if (config.rope.dims > config.key_dim) keys.refuse("rope.dimension_count", "exceeds a head");
  config.attention_scale =
      keys.real_or("attention.scale", 1.0F / std::sqrt(static_cast<float>(config.key_dim)));
}

void read_moe(const Keys& keys, bool normalise_by_default, ModelConfig& config) {
  moe::RoutingConfig& routing = config.moe.routing;
  routing.experts = keys.integer_or("expert_count", 0, 0, 1024);
  if (routing.experts == 0) return;
  routing.used = keys.integer("expert_used_count", 1, routing.experts);
  const int gating = keys.integer_or("expert_gating_func", 1, 0, 3);
  routing.gating = gating == 0 ? moe::Gating::kSoftmax : static_cast<moe::Gating>(gating);
  routing.normalise = keys.boolean_or("expert_weights_norm", normalise_by_default);
  routing.scale = keys.real_or("expert_weights_scale", 1.0F);
  if (routing.scale == 0.0F) routing.scale = 1.0F;  // written by old converters for "none"
  routing.groups = keys.integer_or("expert_group_count", 1, 0, routing.experts);
  if (routing.groups == 0) routing.groups = 1;
  routing.groups_used =
      keys.integer_or("expert_group_used_count", routing.groups, 0, routing.groups);
  if (routing.groups_used == 0) routing.groups_used = routing.groups;
  if (routing.experts % routing.groups != 0) {
    keys.refuse("expert_group_count", "does not divide the number of experts");
  }
  if (routing.groups_used * (routing.experts / routing.groups) < routing.used) {
    keys.refuse("expert_group_used_count", "leaves fewer experts than a token uses");
  }
  config.moe.leading_dense_layers =
      keys.integer_or("leading_dense_block_count", 0, 0, config.layers);
  config.moe.expert_hidden =
      keys.integer_or("expert_feed_forward_length", config.ffn_hidden, 1, kMaxDim);
  if (keys.has("expert_shared_feed_forward_length")) {
    config.moe.shared_hidden = keys.integer("expert_shared_feed_forward_length", 0, kMaxDim);
  } else {
    config.moe.shared_hidden =
        keys.integer_or("expert_shared_count", 0, 0, 1024) * config.moe.expert_hidden;
  }
}

}  // namespace

ModelConfig read_config(const gguf::File& file) {
  const ArchitectureTraits& traits = find_architecture(file);
  const Keys keys(file, traits.name);
  ModelConfig config;
  config.architecture = traits.name;
  config.layers = keys.integer("block_count", 1, 4096);
  config.hidden = keys.integer("embedding_length", 1, kMaxDim);
  config.context = keys.integer("context_length", 1, 1 << 30);
  config.heads = keys.integer("attention.head_count", 1, kMaxHeads);
  config.ffn_hidden = keys.integer_or("feed_forward_length", 0, 0, 1 << 24);
  config.norm_epsilon = keys.real_or("attention.layer_norm_rms_epsilon", 1e-5F);
  if (config.norm_epsilon < 0.0F) {
    keys.refuse("attention.layer_norm_rms_epsilon", "is negative");
  }
  config.rope.style = traits.rope_style;
  if (config.architecture == "deepseek2") {
    read_mla(keys, config);
  } else {
    read_gqa(keys, config);
  }
  read_moe(keys, traits.normalise_experts, config);
  const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) throw Error("{}: tensor token_embd.weight is missing", file.path());
  const int64_t vocab = embedding->tensor.rows();
  if (vocab < 1 || vocab > (1 << 24)) {
    throw Error("{}: token_embd.weight has {} rows", file.path(), vocab);
  }
  config.vocab = static_cast<int>(vocab);
  return config;
}

}  // namespace tandem::models
