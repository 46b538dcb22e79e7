// Placement rules from a YAML file, in either of two forms (docs/placement.md): lines of
// `regex: device` on the file's tensor names, or the rules of KTransformers, which match modules of
// a Hugging Face model by name and class. The second kind is read for what it says of devices.
#pragma once

#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"
#include "models/placement.h"

namespace tandem::models {

struct ModuleRule {
  std::optional<std::regex> name;  // searched for in the module's path; none: any
  std::string kind;                // of the module, from match.class; empty: any
  Device device = Device::kCuda;
  bool cpu_prefill = false;  // on the CPU, and prompts are computed there too
  bool recursive = true;     // modules inside the matched one ask the rules as well
  std::string origin;

  bool matches(const std::string& path, std::string_view module_kind) const;
};

struct RuleFile {
  std::vector<PlacementRule> short_rules;
  std::vector<ModuleRule> module_rules;
  std::vector<std::string> notes;  // what has no effect here, one line each
};

// Throws Error for a file that cannot be read, is of neither form, or asks for what is not there.
RuleFile read_rule_file(const std::string& path);

struct Module {
  std::string path;       // "model.layers.3.self_attn.q_proj"
  std::string_view kind;  // "Linear"
};
// The modules that a GGUF tensor is part of in a Hugging Face model, from the outermost to its own.
std::vector<Module> modules_of(std::string_view tensor, const ModelConfig& config);

struct ModuleDecision {
  Device device;
  bool cpu_prefill;
  std::string origin;
};
// As the original decides: from the outermost module inwards each takes the first rule that
// matches; where no rule does, the first GPU.
ModuleDecision decide(const RuleFile& file, std::string_view tensor, const ModelConfig& config);

}  // namespace tandem::models
