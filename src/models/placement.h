// Where a model's weights live. Wishes are rules on tensor names, as people write them; they are
// checked against the model once, and what cannot be done is refused with the reason. What they
// leave open the engine's planner decides. Placement is the result, which weights are loaded by.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "gguf/file.h"
#include "models/config.h"

namespace tandem::ops {
class Gpu;
}

namespace tandem::models {

// Whether a tensor of the file is a stack of routed experts, by its name.
inline bool is_routed_experts(std::string_view tensor) {
  return tensor.find("_exps.") != std::string_view::npos;
}

// The layer that a tensor belongs to: 7 of "blk.7.attn_q.weight"; -1: none.
int layer_of(std::string_view tensor);

// Without a GPU everything is on the CPU; with one, everything but the first layers and the routed
// experts that are not.
struct Placement {
  ops::Gpu* gpu = nullptr;
  // The first so many layers are wholly on the CPU, and the embedding before them; at most all,
  // with the output on the GPU.
  int cpu_layers = 0;
  std::vector<Device> experts = {};  // [L] of each layer's routed experts; none: all on the CPU
  int nodes = 1;                     // NUMA nodes over which large stacks in host memory are split

  // Where the activations of the layer are; the embedding's are those of layer 0, the output's
  // those of the layer behind the last.
  Device of_layer(int layer) const;
  Device of(std::string_view tensor) const;
};

struct PlacementRule {
  std::string pattern;  // ECMAScript regular expression, searched for in tensor names
  Device device;
  std::string origin;  // for messages: the flag, or the file and the number in it
};

// What the command line asks for.
struct PlacementWishes {
  static constexpr int kAllLayers = 1 << 20;

  std::vector<PlacementRule> rules;  // --override-tensor: the first that matches a tensor decides
  std::string rule_file;             // --optimize_config_path, behind those
  int cpu_expert_layers = 0;  // --n-cpu-moe: routed experts of the first so many layers; --cpu_moe
  int gpu_layers = -1;        // --n-gpu-layers: the last so many, the output is one; -1: not given
};

// "REGEX=CPU,REGEX=CUDA0": llama.cpp's way of writing rules. Throws Error.
std::vector<PlacementRule> parse_rules(const std::string& text, const std::string& origin);
// "cpu", "CPU", "cuda", "cuda:0", "CUDA0"; throws Error for others, another GPU's with the reason.
Device parse_device(const std::string& name, const std::string& origin);

// What the wishes say of this model.
struct FixedPlaces {
  bool cpu_only = false;   // everything is wanted on the CPU
  bool needs_gpu = false;  // something is wanted on the GPU
  int cpu_layers = 0;      // so many of the first are wanted wholly on the CPU, or more,
  // up to this one, of which something is wanted on the GPU. The output is behind the last.
  int gpu_from = PlacementWishes::kAllLayers;
  std::vector<std::optional<Device>> experts;  // [L] none: open, or a layer without experts
  // [L] experts on the CPU that prompts are not copied to the GPU for (prefill_device: cpu).
  std::vector<bool> cpu_prefill;
  std::vector<std::string> notes;  // what has no effect here, and why: for the log
};

// Throws Error that names the rule, or the layer, for what cannot be done.
FixedPlaces fixed_places(const gguf::File& file, const ModelConfig& config,
                         const PlacementWishes& wishes);

}  // namespace tandem::models
