// Each tensor asks the rules in turn; what a layer's tensors say must then be one thing.
#include "models/placement.h"

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/error.h"
#include "models/rule_file.h"

namespace tandem::models {
namespace {

constexpr std::string_view kEmbedding = "token_embd.weight";

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

// Rules in their order of precedence: --override-tensor, the file, --n-cpu-moe, --n-gpu-layers.
class Rules {
 public:
  Rules(const ModelConfig& config, const PlacementWishes& wishes)
      : config_(config),
        cpu_expert_layers_(wishes.cpu_expert_layers),
        gpu_layers_(wishes.gpu_layers) {
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
    // As llama.cpp counts: the output is the last, and the embedding is none.
    if (gpu_layers_ < 0 || tensor == kEmbedding) return std::nullopt;
    const int layer = layer_of(tensor) < 0 ? config_.layers : layer_of(tensor);
    const bool on_gpu = layer > config_.layers - gpu_layers_;
    return Decision{on_gpu ? Device::kCuda : Device::kCpu,
                    fmt::format("--n-gpu-layers {}", gpu_layers_)};
  }

  // After all tensors were asked.
  std::vector<std::string> notes() const {
    std::vector<std::string> notes = file_.notes;
    for (const Compiled& rule : rules_) {
      if (rule.used) continue;
      notes.push_back(
          fmt::format("{}: no tensor is left for '{}'", rule.rule.origin, rule.rule.pattern));
    }
    if (gpu_layers_ > 0 && !file_.module_rules.empty()) {
      notes.push_back(fmt::format(
          "--n-gpu-layers {}: the rule file says of every tensor where it is", gpu_layers_));
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
  int cpu_expert_layers_, gpu_layers_;
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

// What is wanted of a layer's tensors beside its routed experts.
struct RestOfLayer {
  struct Wish {
    std::string tensor, origin;
  };
  std::optional<Wish> on_cpu, on_gpu;
  std::string open;  // a tensor that nobody wants anywhere

  void add(std::string_view tensor, const std::optional<Decision>& decision) {
    if (!decision) {
      open = tensor;
    } else if (std::optional<Wish>& wish = decision->device == Device::kCpu ? on_cpu : on_gpu;
               !wish) {
      wish = {std::string(tensor), decision->origin};
    }
  }
  // A tensor that nobody wants on the CPU, or "".
  std::string elsewhere() const { return on_gpu ? on_gpu->tensor : open; }
};

// rest: [L + 1], the output behind the layers. On the CPU are whole layers, from the first on.
void set_layers(const std::vector<RestOfLayer>& rest, FixedPlaces& fixed) {
  size_t first = 0;
  while (first < rest.size() && rest[first].on_cpu) ++first;
  for (size_t i = 0; i < rest.size(); ++i) {
    if (rest[i].on_gpu) fixed.gpu_from = std::min(fixed.gpu_from, static_cast<int>(i));
    if (!rest[i].on_cpu) continue;
    const auto& [tensor, origin] = *rest[i].on_cpu;
    if (const std::string other = rest[i].elsewhere(); !other.empty()) {
      throw Error(
          "{} is wanted on the CPU by {}, but not {}: beside a GPU the CPU takes whole layers, or "
          "their routed experts alone",
          tensor, origin, other);
    }
    if (i >= first) {
      throw Error(
          "{} is wanted on the CPU by {}, but not {}: layers on the CPU come before those on the "
          "GPU, and the output behind them",
          tensor, origin, rest[first].elsewhere());
    }
  }
  fixed.cpu_only = first == rest.size();
  fixed.cpu_layers = static_cast<int>(std::min(first, rest.size() - 1));
}

void set_experts(const ExpertsOfLayer& found, const RestOfLayer& rest, size_t layer,
                 FixedPlaces& fixed) {
  const bool with_layer = static_cast<int>(layer) < fixed.cpu_layers;
  if (with_layer && found.first && found.first->device == Device::kCuda) {
    throw Error("{} is wanted on the GPU by {}, but {} on the CPU by {}, which takes whole layers",
                found.first_tensor, found.first->origin, rest.on_cpu->tensor, rest.on_cpu->origin);
  }
  if (with_layer && (found.first || found.any_open)) {
    fixed.experts[layer] = Device::kCpu;
    return;
  }
  if (!found.first) return;
  if (found.any_open) {
    throw Error("{} is wanted on {} by {}, but not {}: a layer's routed experts go together",
                found.first_tensor, text_of(found.first->device), found.first->origin,
                found.open_tensor);
  }
  fixed.experts[layer] = found.first->device;
  if (found.first->device == Device::kCuda) {
    fixed.gpu_from = std::min(fixed.gpu_from, static_cast<int>(layer));
  }
  fixed.cpu_prefill[layer] = found.first->cpu_prefill;
}

// The table goes with the first layer. The original's files all say where it is, for it is on the
// CPU there in any case.
void check_embedding(const Decision& wish, FixedPlaces& fixed) {
  const bool on_cpu = fixed.cpu_only || fixed.cpu_layers > 0;
  if ((wish.device == Device::kCpu) == on_cpu) return;
  if (!wish.of_module) {
    throw Error("{} is wanted on {} by {}, but not the first layer: the embedding goes with it",
                kEmbedding, text_of(wish.device), wish.origin);
  }
  fixed.notes.push_back(
      fmt::format("{} wants the embedding table on {}: here it goes with the first layer",
                  wish.origin, text_of(wish.device)));
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

Device Placement::of_layer(int layer) const {
  return gpu == nullptr || layer < cpu_layers ? Device::kCpu : Device::kCuda;
}

Device Placement::of(std::string_view tensor) const {
  const int layer = layer_of(tensor);
  if (tensor == kEmbedding) return of_layer(0);
  const Device activations = layer < 0 ? of_layer(PlacementWishes::kAllLayers) : of_layer(layer);
  if (activations == Device::kCpu || !is_routed_experts(tensor)) return activations;
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
  std::vector<RestOfLayer> rest(layers + 1);
  std::optional<Decision> embedding;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const std::optional<Decision> decision = rules.of(info.name);
    const int layer = layer_of(info.name);
    if (layer >= config.layers) continue;            // a layer that the model does not run
    if (info.name == "rope_freqs.weight") continue;  // no operator reads it
    const auto index = layer < 0 ? layers : static_cast<size_t>(layer);
    if (info.name == kEmbedding) {
      embedding = decision;
    } else if (is_routed_experts(info.name) && layer >= 0) {
      add_expert_tensor(experts[index], info.name, decision);
    } else {
      rest[index].add(info.name, decision);
    }
    const bool goes_along = info.name == kEmbedding && decision && decision->of_module;
    if (decision && decision->device == Device::kCuda && !goes_along) fixed.needs_gpu = true;
  }
  fixed.notes = rules.notes();
  set_layers(rest, fixed);
  for (size_t i = 0; i < layers; ++i) set_experts(experts[i], rest[i], i, fixed);
  if (embedding) check_embedding(*embedding, fixed);
  if (wishes.gpu_layers == 0 && fixed.needs_gpu) {
    throw Error("--n-gpu-layers 0 leaves the GPU alone, but placement rules want tensors on it");
  }
  return fixed;
}

}  // namespace tandem::models
