// Each tensor asks the rules in turn; what a layer's tensors say must then be one thing.
#include "models/placement.h"

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/error.h"
#include "models/rule_file.h"

namespace tandem::models {
namespace {

const char* text_of(Device device) { return device == Device::kCpu ? "the CPU" : "the GPU"; }

std::regex compile(const PlacementRule& rule) {
  try {
    return std::regex(rule.pattern);
  } catch (const std::regex_error& error) {
    throw Error("{}: '{}' is no regular expression: {}", rule.origin, rule.pattern, error.what());
  }
}

struct Decision {
  Device device;
  std::string origin;
  bool cpu_prefill = false;
  bool of_module = false;  // by a rule in the original's form
};

// Rules in their order of precedence: --override-tensor, the file, --n-cpu-moe.
class Rules {
 public:
  Rules(const ModelConfig& config, const PlacementWishes& wishes)
      : config_(config), cpu_expert_layers_(wishes.cpu_expert_layers) {
    add(wishes.rules);
    if (wishes.rule_file.empty()) return;
    file_ = read_rule_file(wishes.rule_file);
    add(file_.short_rules);
  }

  std::optional<Decision> of(std::string_view tensor) {
    const std::string name(tensor);
    for (Compiled& rule : rules_) {
      if (!std::regex_search(name, rule.regex)) continue;
      rule.used = true;
      return Decision{rule.rule.device, rule.rule.origin + " '" + rule.rule.pattern + "'"};
    }
    if (!file_.module_rules.empty()) {
      const ModuleDecision decision = decide(file_, tensor, config_);
      return Decision{decision.device, decision.origin, decision.cpu_prefill, true};
    }
    if (is_routed_experts(tensor) && layer_of(tensor) < cpu_expert_layers_) {
      return Decision{Device::kCpu, "--n-cpu-moe or --cpu_moe"};
    }
    return std::nullopt;
  }

  // After all tensors were asked.
  std::vector<std::string> notes() const {
    std::vector<std::string> notes = file_.notes;
    for (const Compiled& rule : rules_) {
      if (rule.used) continue;
      notes.push_back(
          fmt::format("{}: no tensor is left for '{}'", rule.rule.origin, rule.rule.pattern));
    }
    return notes;
  }

 private:
  struct Compiled {
    PlacementRule rule;
    std::regex regex;
    bool used = false;
  };

  void add(const std::vector<PlacementRule>& rules) {
    for (const PlacementRule& rule : rules) rules_.push_back({rule, compile(rule)});
  }

  const ModelConfig& config_;
  int cpu_expert_layers_;
  std::vector<Compiled> rules_;
  RuleFile file_;
};

// gate, up and down of a layer, as far as they were asked for.
struct ExpertsOfLayer {
  std::optional<Decision> first;
  std::string first_tensor;
  bool any_open = false;
  std::string open_tensor;
};

void add_expert_tensor(ExpertsOfLayer& layer, std::string_view tensor,
                       const std::optional<Decision>& decision) {
  if (!decision) {
    layer.any_open = true;
    layer.open_tensor = tensor;
  } else if (!layer.first) {
    layer.first = decision;
    layer.first_tensor = tensor;
  } else if (layer.first->device != decision->device) {
    throw Error("{} is wanted on {} by {} and {} on {} by {}: a layer's routed experts go together",
                layer.first_tensor, text_of(layer.first->device), layer.first->origin, tensor,
                text_of(decision->device), decision->origin);
  }
}

// What is wanted on the CPU beside experts: all of it, or nothing.
struct OtherTensors {
  std::string on_cpu, cpu_origin;
  std::string embedding_origin;  // all of the original's files want the table on the CPU
  bool any_elsewhere = false;
};

void set_experts(const ExpertsOfLayer& found, size_t layer, FixedPlaces& fixed) {
  if (!found.first) return;
  if (found.any_open) {
    throw Error("{} is wanted on {} by {}, but not {}: a layer's routed experts go together",
                found.first_tensor, text_of(found.first->device), found.first->origin,
                found.open_tensor);
  }
  fixed.experts[layer] = found.first->device;
  fixed.cpu_prefill[layer] = found.first->cpu_prefill;
}

// llama.cpp counts the output as one more layer behind the others.
void apply_gpu_layers(int gpu_layers, const ModelConfig& config, FixedPlaces& fixed) {
  if (gpu_layers < 0) return;
  if (gpu_layers == 0) {
    fixed.cpu_only = true;
  } else if (gpu_layers <= config.layers) {
    throw Error(
        "--n-gpu-layers {}: layers are not divided between the CPU and the GPU; 0 is the CPU "
        "alone, {} and more all layers on the GPU, and --n-cpu-moe N keeps the experts of N layers "
        "on the CPU",
        gpu_layers, config.layers + 1);
  } else {
    fixed.needs_gpu = true;
    for (std::optional<Device>& experts : fixed.experts) {
      if (!experts) experts = Device::kCuda;
    }
  }
}

}  // namespace

int layer_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  if (!tensor.starts_with(kPrefix)) return -1;
  int layer = -1;
  const char* end = tensor.data() + tensor.size();
  const auto [rest, error] = std::from_chars(tensor.data() + kPrefix.size(), end, layer);
  return error == std::errc() && rest != end && *rest == '.' ? layer : -1;
}

Device Placement::of(std::string_view tensor) const {
  if (gpu == nullptr) return Device::kCpu;
  if (!is_routed_experts(tensor)) return Device::kCuda;
  const int layer = layer_of(tensor);
  const bool known = layer >= 0 && static_cast<size_t>(layer) < experts.size();
  return known ? experts[static_cast<size_t>(layer)] : Device::kCpu;
}

Device parse_device(const std::string& name, const std::string& origin) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower == "cpu") return Device::kCpu;
  if (lower == "cuda" || lower == "cuda:0" || lower == "cuda0") return Device::kCuda;
  if (lower.starts_with("cuda")) {
    throw Error("{}: device {}: one GPU is used, CUDA0; what is on others goes there or to the CPU",
                origin, name);
  }
  throw Error("{}: device '{}': known are CPU and CUDA0", origin, name);
}

// The last '=' divides: patterns may hold one.
std::vector<PlacementRule> parse_rules(const std::string& text, const std::string& origin) {
  std::vector<PlacementRule> rules;
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const size_t equals = part.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      throw Error("{} '{}': must be REGEX=CPU or REGEX=CUDA0", origin, part);
    }
    rules.push_back({.pattern = part.substr(0, equals),
                     .device = parse_device(part.substr(equals + 1), origin),
                     .origin = origin});
    begin = end + 1;
  }
  return rules;
}

FixedPlaces fixed_places(const gguf::File& file, const ModelConfig& config,
                         const PlacementWishes& wishes) {
  const auto layers = static_cast<size_t>(config.layers);
  FixedPlaces fixed;
  fixed.experts.resize(layers);
  fixed.cpu_prefill.resize(layers);
  Rules rules(config, wishes);
  std::vector<ExpertsOfLayer> experts(layers);
  OtherTensors others;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const std::optional<Decision> decision = rules.of(info.name);
    const int layer = layer_of(info.name);
    if (layer >= config.layers) continue;  // a layer that the model does not run
    const bool on_cpu = decision && decision->device == Device::kCpu;
    if (decision && !on_cpu) fixed.needs_gpu = true;
    if (is_routed_experts(info.name) && layer >= 0) {
      add_expert_tensor(experts[static_cast<size_t>(layer)], info.name, decision);
      others.any_elsewhere |= !on_cpu;
    } else if (!on_cpu) {
      others.any_elsewhere = true;
    } else if (info.name == "token_embd.weight" && decision->of_module) {
      others.embedding_origin = decision->origin;
    } else if (others.on_cpu.empty()) {
      others.on_cpu = info.name;
      others.cpu_origin = decision->origin;
    }
  }
  for (size_t i = 0; i < layers; ++i) set_experts(experts[i], i, fixed);
  fixed.notes = rules.notes();
  fixed.cpu_only = !others.on_cpu.empty() && !others.any_elsewhere;
  if (!others.on_cpu.empty() && !fixed.cpu_only) {
    throw Error(
        "{} is wanted on the CPU by {}: beside a GPU only routed experts are on the CPU; all else "
        "goes with the activations",
        others.on_cpu, others.cpu_origin);
  }
  if (!others.embedding_origin.empty() && !fixed.cpu_only) {
    fixed.notes.push_back(others.embedding_origin +
                          " wants the embedding table on the CPU: here it goes with the "
                          "activations, as they begin there");
  }
  apply_gpu_layers(wishes.gpu_layers, config, fixed);
  if (fixed.cpu_only && fixed.needs_gpu) {
    throw Error("--n-gpu-layers 0 leaves the GPU alone, but placement rules want tensors on it");
  }
  return fixed;
}

}  // namespace tandem::models
