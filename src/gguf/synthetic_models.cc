// The same lay-out as tools/synth_gguf.py, which writes it to a file.
#include "gguf/synthetic_models.h"

#include <array>

#include "base/error.h"

namespace tandem::gguf {
namespace {

// Sizes as in the models' published configurations; 0: does not have it.
struct Sizes {
  std::string_view name;
  std::string_view architecture;
  int layers;
  int context;
  double rope_base;
  int64_t vocab, hidden, heads;
  // grouped-query attention
  int64_t kv_heads = 0, head_dim = 0;
  // multi-head latent attention
  int64_t q_lora = 0, kv_lora = 0, nope = 0, rope = 0, value = 0;
  // feed-forward
  int64_t ffn_hidden, expert_hidden = 0, experts = 0, used = 0;  // no experts: a dense model
  int64_t shared = 0;                                            // experts that all tokens go to
  int dense = 0;                                                 // leading layers without experts
  // routing of deepseek2
  double scale = 1.0;
  bool normalise = false;
  uint64_t gating = 1;  // 1: softmax, 2: sigmoid
  bool bias = false;
  uint64_t groups = 0, groups_used = 0;
};

constexpr std::array<Sizes, 5> kModels = {{
    {.name = "ds-v2-lite",
     .architecture = "deepseek2",
     .layers = 27,
     .context = 163840,
     .rope_base = 10000.0,
     .vocab = 102400,
     .hidden = 2048,
     .heads = 16,
     .kv_lora = 512,
     .nope = 128,
     .rope = 64,
     .value = 128,
     .ffn_hidden = 10944,
     .expert_hidden = 1408,
     .experts = 64,
     .used = 6,
     .shared = 2,
     .dense = 1},
    {.name = "ds-v3",
     .architecture = "deepseek2",
     .layers = 61,
     .context = 163840,
     .rope_base = 10000.0,
     .vocab = 129280,
     .hidden = 7168,
     .heads = 128,
     .q_lora = 1536,
     .kv_lora = 512,
     .nope = 128,
     .rope = 64,
     .value = 128,
     .ffn_hidden = 18432,
     .expert_hidden = 2048,
     .experts = 256,
     .used = 8,
     .shared = 1,
     .dense = 3,
     .scale = 2.5,
     .normalise = true,
     .gating = 2,
     .bias = true,
     .groups = 8,
     .groups_used = 4},
    {.name = "qwen3-30b-a3b",
     .architecture = "qwen3moe",
     .layers = 48,
     .context = 40960,
     .rope_base = 1e6,
     .vocab = 151936,
     .hidden = 2048,
     .heads = 32,
     .kv_heads = 4,
     .head_dim = 128,
     .ffn_hidden = 6144,
     .expert_hidden = 768,
     .experts = 128,
     .used = 8},
    {.name = "qwen3-235b-a22b",
     .architecture = "qwen3moe",
     .layers = 94,
     .context = 40960,
     .rope_base = 1e6,
     .vocab = 151936,
     .hidden = 4096,
     .heads = 64,
     .kv_heads = 4,
     .head_dim = 128,
     .ffn_hidden = 12288,
     .expert_hidden = 1536,
     .experts = 128,
     .used = 8},
    {.name = "qwen3-14b",
     .architecture = "qwen3",
     .layers = 40,
     .context = 40960,
     .rope_base = 1e6,
     .vocab = 151936,
     .hidden = 5120,
     .heads = 40,
     .kv_heads = 8,
     .head_dim = 128,
     .ffn_hidden = 17408},
}};

Sizes find_sizes(std::string_view name) {
  std::string known;
  for (const Sizes& sizes : kModels) {
    if (sizes.name == name) return sizes;
    known += (known.empty() ? "" : ", ") + std::string(sizes.name);
  }
  throw Error("there is no synthetic model '{}'; known are {}", name, known);
}

// The layers whose down and value matrices have six bits in a Q4_K_M file.
bool has_more_bits(int layer, int layers) {
  const int eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

// What stands in for a type whose blocks of 256 do not divide the rows.
DType fitting(DType wanted, int64_t row) {
  if (row % 256 == 0) return wanted;
  return wanted == DType::kQ6_K ? DType::kQ8_0 : DType::kQ5_0;
}

class Tensors {
 public:
  explicit Tensors(const Sizes& sizes) : m_(sizes) {
    matrix("token_embd.weight", shape(m_.vocab, m_.hidden), DType::kQ4_K);
    norm("output_norm.weight", m_.hidden);
    matrix("output.weight", shape(m_.vocab, m_.hidden), DType::kQ6_K);
    for (int i = 0; i < m_.layers; ++i) layer(i);
  }

  std::vector<SyntheticTensor> take() { return std::move(tensors_); }

 private:
  void add(const std::string& name, const Shape& shape, DType dtype, bool ones) {
    tensors_.push_back({.name = prefix_ + name, .dtype = dtype, .shape = shape, .ones = ones});
  }
  void matrix(const std::string& name, const Shape& shape, DType wanted) {
    add(name, shape, fitting(wanted, shape.inner(0)), false);
  }
  void norm(const std::string& name, int64_t n) { add(name, shape(n), DType::kF32, true); }

  void layer(int index) {
    prefix_ = "blk." + std::to_string(index) + ".";
    const DType better = has_more_bits(index, m_.layers) ? DType::kQ6_K : DType::kQ4_K;
    norm("attn_norm.weight", m_.hidden);
    norm("ffn_norm.weight", m_.hidden);
    if (m_.kv_lora > 0) {
      latent_attention(better);
    } else {
      grouped_attention(better);
    }
    if (index < m_.dense || m_.experts == 0) {
      feed_forward("", shape(m_.ffn_hidden, m_.hidden), shape(m_.hidden, m_.ffn_hidden), better);
      return;
    }
    if (m_.shared > 0) {
      const int64_t f = m_.shared * m_.expert_hidden;
      feed_forward("_shexp", shape(f, m_.hidden), shape(m_.hidden, f), better);
    }
    if (m_.bias) add("exp_probs_b.bias", shape(m_.experts), DType::kF32, false);
    add("ffn_gate_inp.weight", shape(m_.experts, m_.hidden), DType::kF32, false);
    feed_forward("_exps", shape(m_.experts, m_.expert_hidden, m_.hidden),
                 shape(m_.experts, m_.hidden, m_.expert_hidden), better);
  }

  void latent_attention(DType better) {
    const int64_t query = m_.heads * (m_.nope + m_.rope);
    if (m_.q_lora > 0) {
      matrix("attn_q_a.weight", shape(m_.q_lora, m_.hidden), DType::kQ4_K);
      norm("attn_q_a_norm.weight", m_.q_lora);
      matrix("attn_q_b.weight", shape(query, m_.q_lora), DType::kQ4_K);
    } else {
      matrix("attn_q.weight", shape(query, m_.hidden), DType::kQ4_K);
    }
    matrix("attn_kv_a_mqa.weight", shape(m_.kv_lora + m_.rope, m_.hidden), better);
    norm("attn_kv_a_norm.weight", m_.kv_lora);
    add("attn_k_b.weight", shape(m_.heads, m_.kv_lora, m_.nope), DType::kQ8_0, false);
    add("attn_v_b.weight", shape(m_.heads, m_.value, m_.kv_lora), DType::kQ8_0, false);
    matrix("attn_output.weight", shape(m_.hidden, m_.heads * m_.value), DType::kQ4_K);
  }

  void grouped_attention(DType better) {
    const int64_t width = m_.heads * m_.head_dim, kv_width = m_.kv_heads * m_.head_dim;
    matrix("attn_q.weight", shape(width, m_.hidden), DType::kQ4_K);
    matrix("attn_k.weight", shape(kv_width, m_.hidden), DType::kQ4_K);
    matrix("attn_v.weight", shape(kv_width, m_.hidden), better);
    matrix("attn_output.weight", shape(m_.hidden, width), DType::kQ4_K);
    norm("attn_q_norm.weight", m_.head_dim);
    norm("attn_k_norm.weight", m_.head_dim);
  }

  void feed_forward(const std::string& suffix, const Shape& up, const Shape& down, DType better) {
    matrix("ffn_gate" + suffix + ".weight", up, DType::kQ4_K);
    matrix("ffn_up" + suffix + ".weight", up, DType::kQ4_K);
    matrix("ffn_down" + suffix + ".weight", down, better);
  }

  const Sizes& m_;
  std::string prefix_;
  std::vector<SyntheticTensor> tensors_;
};

std::vector<SyntheticEntry> metadata_of(const Sizes& m) {
  std::vector<SyntheticEntry> entries;
  const auto own = [&](const std::string& key, auto value) {
    entries.push_back({std::string(m.architecture) + "." + key, value});
  };
  const auto number = [&](const std::string& key, int64_t value) {
    own(key, static_cast<uint64_t>(value));
  };
  entries.push_back({"general.architecture", std::string(m.architecture)});
  entries.push_back({"general.name", "synthetic " + std::string(m.name)});
  entries.push_back({"general.file_type", uint64_t{15}});  // Q4_K_M
  entries.push_back({"general.quantization_version", uint64_t{2}});
  entries.push_back({"general.alignment", uint64_t{64}});
  number("block_count", m.layers);
  number("context_length", m.context);
  number("embedding_length", m.hidden);
  number("feed_forward_length", m.ffn_hidden);
  number("attention.head_count", m.heads);
  own("rope.freq_base", m.rope_base);
  own("attention.layer_norm_rms_epsilon", 1e-6);
  if (m.experts > 0) {
    number("expert_count", m.experts);
    number("expert_used_count", m.used);
    number("expert_feed_forward_length", m.expert_hidden);
  }
  number("vocab_size", m.vocab);
  if (m.kv_lora == 0) {
    number("attention.head_count_kv", m.kv_heads);
    number("attention.key_length", m.head_dim);
    number("attention.value_length", m.head_dim);
    return entries;
  }
  number("attention.head_count_kv", 1);
  number("leading_dense_block_count", m.dense);
  number("attention.kv_lora_rank", m.kv_lora);
  number("attention.key_length", m.kv_lora + m.rope);
  number("attention.value_length", m.kv_lora);
  number("attention.key_length_mla", m.nope + m.rope);
  number("attention.value_length_mla", m.value);
  number("expert_shared_count", m.shared);
  own("expert_weights_scale", m.scale);
  own("expert_weights_norm", m.normalise);
  own("expert_gating_func", m.gating);
  number("rope.dimension_count", m.rope);
  number("attention.q_lora_rank", m.q_lora);
  if (m.groups > 0) {
    own("expert_group_count", m.groups);
    own("expert_group_used_count", m.groups_used);
  }
  return entries;
}

}  // namespace

SyntheticModel synthetic_model(std::string_view name, int layers) {
  Sizes sizes = find_sizes(name);
  if (layers < 0 || layers > sizes.layers) {
    throw Error("{} has {} layers, {} are wanted", name, sizes.layers, layers);
  }
  if (layers > 0) sizes.layers = layers;
  // So few layers that none would have experts: what is measured then is a layer with them.
  if (sizes.dense >= sizes.layers) sizes.dense = 1;
  return {.metadata = metadata_of(sizes), .tensors = Tensors(sizes).take()};
}

}  // namespace tandem::gguf
