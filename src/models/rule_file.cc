// Reads both forms of rule files.
#include "models/rule_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <yaml-cpp/yaml.h>

#include "base/error.h"

namespace tandem::models {
namespace {

// Ends of the class names that rules match by. What a file names beside them is no module of the
// architectures here.
constexpr std::array<std::string_view, 10> kKinds = {
    "Linear",    "MoEGate",         "RMSNorm",   "MLP",        "SparseMoeBlock",
    "Attention", "RotaryEmbedding", "Embedding", "ModuleList", "DecoderLayer"};

// Kernels of the original that do not change weights: their names say nothing new here.
constexpr std::array<std::string_view, 4> kPlainKernels = {"KLinearTorch", "KLinearCPUInfer",
                                                           "KExpertsCPU", "KExpertsTorch"};

// Keys of `kwargs` that are read, or that change nothing in where weights are.
constexpr std::array<std::string_view, 12> kKnownKeys = {
    "generate_device", "prefill_device",     "generate_op", "prefill_op",
    "device",          "out_device",         "num_bits",    "group_size",
    "act_order",       "absorb_for_prefill", "is_k_full",   "per_layer_prefill_intput_threshold"};

template <size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string_view kind_of(const std::string& class_path, const std::string& origin) {
  const std::string name = class_path.substr(class_path.rfind('.') + 1);
  // DeepSeek's block is called MoE alone, Mixtral's MoEBlock, Qwen's SparseMoeBlock.
  if (name.ends_with("MoE") || name.ends_with("MoEBlock")) return "SparseMoeBlock";
  // A whole model, which has no weights of its own.
  if (name.ends_with("Model") || name.ends_with("ForCausalLM")) return "Model";
  for (const std::string_view kind : kKinds) {
    if (name.ends_with(kind)) return kind;
  }
  std::string known = "Model";
  for (const std::string_view kind : kKinds) known += ", " + std::string(kind);
  throw Error("{}: class {}: known are classes that end with {}", origin, class_path, known);
}

std::string text(const YAML::Node& node) {
  return node && node.IsScalar() ? node.as<std::string>() : std::string();
}

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {}

  RuleFile read() {
    try {
      const YAML::Node root = YAML::Load(contents());
      if (root.IsMap()) {
        read_short(root);
      } else if (root.IsSequence()) {
        int number = 0;
        for (const YAML::Node& rule : root) read_rule(rule, ++number);
      } else {
        throw Error("{}: neither lines of 'regex: device' nor a list of match and replace", path_);
      }
    } catch (const YAML::Exception& error) {
      throw Error("{}: {}", path_, error.what());
    }
    return std::move(file_);
  }

 private:
  std::string contents() const {
    std::ifstream file(path_, std::ios::binary);
    std::ostringstream text;
    if (file) text << file.rdbuf();
    if (!file) throw Error("{}: cannot be read: {}", path_, std::strerror(errno));
    return text.str();
  }

  void read_short(const YAML::Node& root) {
    for (const auto& entry : root) {
      const auto pattern = entry.first.as<std::string>();
      file_.short_rules.push_back({.pattern = pattern,
                                   .device = parse_device(entry.second.as<std::string>(), path_),
                                   .origin = path_});
    }
  }

  void read_rule(const YAML::Node& node, int number) {
    ModuleRule rule;
    rule.origin = fmt::format("{} rule {}", path_, number);
    const YAML::Node match = node["match"], replace = node["replace"];
    if (!match || !replace) throw Error("{}: has no match or no replace", rule.origin);
    const std::string name = text(match["name"]);
    if (match["class"]) rule.kind = kind_of(text(match["class"]), rule.origin);
    if (name.empty() && rule.kind.empty()) {
      throw Error("{}: match has neither name nor class", rule.origin);
    }
    try {
      if (!name.empty()) rule.name = std::regex(name);
    } catch (const std::regex_error& error) {
      throw Error("{}: '{}' is no regular expression: {}", rule.origin, name, error.what());
    }
    if (node["recursive"]) rule.recursive = node["recursive"].as<bool>();
    read_kwargs(replace["kwargs"], rule);
    file_.module_rules.push_back(std::move(rule));
  }

  void read_kwargs(const YAML::Node& kwargs, ModuleRule& rule) {
    if (!kwargs || kwargs.IsNull()) return;
    if (!kwargs.IsMap()) throw Error("{}: kwargs is no map", rule.origin);
    for (const auto& entry : kwargs) {
      const auto key = entry.first.as<std::string>();
      if (key == "transfer_map" && entry.second.size() > 0) {
        throw Error("{}: transfer_map divides layers among GPUs; one GPU is used", rule.origin);
      }
      if (key != "transfer_map" && !contains(kKnownKeys, key)) {
        note(fmt::format("{}: {} has no effect here", rule.origin, key));
      }
    }
    for (const char* key : {"generate_op", "prefill_op"}) note_kernel(text(kwargs[key]));
    const std::string generate = text(kwargs["generate_device"]);
    const std::string prefill = text(kwargs["prefill_device"]);
    if (!generate.empty()) rule.device = parse_device(generate, rule.origin);
    if (prefill.empty()) return;
    const Device prefill_device = parse_device(prefill, rule.origin);
    if (prefill_device == Device::kCuda) return;
    if (rule.device == Device::kCuda) {
      throw Error("{}: generate_device {} with prefill_device {}: weights on the GPU stay there",
                  rule.origin, generate, prefill);
    }
    rule.cpu_prefill = true;
  }

  // One line for each kernel, however many rules name it.
  void note_kernel(const std::string& name) {
    if (name.empty() || name == "None" || contains(kPlainKernels, name)) return;
    note(
        fmt::format("{}: {} has no effect: weights are computed with in the types that the model "
                    "file has, never quantised again",
                    path_, name));
  }

  void note(const std::string& line) {
    if (std::find(file_.notes.begin(), file_.notes.end(), line) == file_.notes.end()) {
      file_.notes.push_back(line);
    }
  }

  std::string path_;
  RuleFile file_;
};

// A tensor's name below its layer -> the module's below the layer.
struct Names {
  std::string_view tensor, module, kind;
};
constexpr Names kNames[] = {
    {"attn_norm", "input_layernorm", "RMSNorm"},
    {"ffn_norm", "post_attention_layernorm", "RMSNorm"},
    {"attn_q", "self_attn.q_proj", "Linear"},
    {"attn_k", "self_attn.k_proj", "Linear"},
    {"attn_v", "self_attn.v_proj", "Linear"},
    {"attn_output", "self_attn.o_proj", "Linear"},
    {"attn_q_norm", "self_attn.q_norm", "RMSNorm"},
    {"attn_k_norm", "self_attn.k_norm", "RMSNorm"},
    {"attn_q_a", "self_attn.q_a_proj", "Linear"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm", "RMSNorm"},
    {"attn_q_b", "self_attn.q_b_proj", "Linear"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", "Linear"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm", "RMSNorm"},
    {"attn_kv_b", "self_attn.kv_b_proj", "Linear"},
    {"attn_k_b", "self_attn.kv_b_proj", "Linear"},
    {"attn_v_b", "self_attn.kv_b_proj", "Linear"},
    {"ffn_gate", "mlp.gate_proj", "Linear"},
    {"ffn_up", "mlp.up_proj", "Linear"},
    {"ffn_down", "mlp.down_proj", "Linear"},
    {"ffn_gate_inp", "mlp.gate", "MoEGate"},
    {"exp_probs_b", "mlp.gate", "MoEGate"},
    {"ffn_gate_exps", "mlp.experts", "ModuleList"},
    {"ffn_up_exps", "mlp.experts", "ModuleList"},
    {"ffn_down_exps", "mlp.experts", "ModuleList"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj", "Linear"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj", "Linear"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj", "Linear"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate", "Linear"},
};

// "model.layers.3.self_attn.q_proj" -> the kind of its part up to a dot.
std::string_view kind_of_parent(std::string_view name, bool has_experts) {
  if (name == "self_attn") return "Attention";
  if (name == "mlp") return has_experts ? "SparseMoeBlock" : "MLP";
  return "MLP";  // shared experts
}

// Where families call a module differently.
std::string family_name(std::string_view module, const ModelConfig& config) {
  std::string name(module);
  const auto replace = [&name](std::string_view from, std::string_view to) {
    if (name.starts_with(from)) name = std::string(to) + name.substr(from.size());
  };
  if (config.architecture == "llama" && config.moe.routing.experts > 0) {
    replace("mlp.", "block_sparse_moe.");
  }
  if (config.architecture == "qwen2moe") replace("mlp.shared_experts.", "mlp.shared_expert.");
  return name;
}

}  // namespace

bool ModuleRule::matches(const std::string& path, std::string_view module_kind) const {
  if (!kind.empty() && kind != module_kind) return false;
  return !name || std::regex_search(path, *name);
}

RuleFile read_rule_file(const std::string& path) { return Reader(path).read(); }

std::vector<Module> modules_of(std::string_view tensor, const ModelConfig& config) {
  if (tensor.starts_with("token_embd.")) {
    return {{"model", "Model"}, {"model.embed_tokens", "Embedding"}};
  }
  if (tensor.starts_with("output_norm.")) return {{"model", "Model"}, {"model.norm", "RMSNorm"}};
  if (tensor.starts_with("output.")) return {{"lm_head", "Linear"}};
  const int layer = layer_of(tensor);
  if (layer < 0) return {{"model", "Model"}};
  const std::string prefix = fmt::format("model.layers.{}", layer);
  std::vector<Module> modules = {{"model", "Model"}, {prefix, "DecoderLayer"}};
  std::string_view below = tensor.substr(tensor.find('.', 4) + 1);  // behind "blk.7."
  below = below.substr(0, below.find('.'));                         // without ".weight"
  const auto* found = std::find_if(std::begin(kNames), std::end(kNames),
                                   [&](const Names& names) { return names.tensor == below; });
  if (found == std::end(kNames)) return modules;
  const bool has_experts =
      config.moe.routing.experts > 0 && layer >= config.moe.leading_dense_layers;
  const std::string name = family_name(found->module, config);
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const std::string parent = name.substr(0, dot);
    const std::string_view kind = parent == "block_sparse_moe"
                                      ? std::string_view("SparseMoeBlock")
                                      : kind_of_parent(parent, has_experts);
    modules.push_back({prefix + "." + parent, kind});
  }
  modules.push_back({prefix + "." + name, found->kind});
  return modules;
}

ModuleDecision decide(const RuleFile& file, std::string_view tensor, const ModelConfig& config) {
  const auto first = [&file](const Module& module) {
    return std::find_if(
        file.module_rules.begin(), file.module_rules.end(),
        [&](const ModuleRule& rule) { return rule.matches(module.path, module.kind); });
  };
  const auto none = file.module_rules.end();
  std::vector<Module> modules = modules_of(tensor, config);
  // A rule for linears reaches into a list of experts that no rule replaces.
  if (is_routed_experts(tensor) && first(modules.back()) == none) {
    modules.push_back({modules.back().path + ".0.gate_proj", "Linear"});
  }
  for (const Module& module : modules) {
    const auto rule = first(module);
    if (rule == none) continue;
    if (&module == &modules.back()) return {rule->device, rule->cpu_prefill, rule->origin};
    if (!rule->recursive) break;
  }
  return {Device::kCuda, false, file.module_rules.front().origin + " and its neighbours"};
}

}  // namespace tandem::models
