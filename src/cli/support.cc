// Small things that several verbs need.
#include "cli/support.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "cli/flags.h"

namespace tandem::cli {

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) throw Error("{}: cannot be read: {}", path, std::strerror(errno));
  return text.str();
}

DType parse_kv_type(const std::string& name) {
  if (name == "f32") return DType::kF32;
  if (name == "f16") return DType::kF16;
  if (name == "bf16") return DType::kBF16;
  throw Error("--kv_type {}: known are f16, bf16, f32", name);
}

void add_numa_option(CLI::App& verb, bool& numa) {
  verb.add_option_function<std::string>(
          "--numa", [&numa](const std::string& value) { numa = value == "auto"; },
          "auto: split large weights over the NUMA nodes, one copy in all; off: ignore nodes")
      ->check(CLI::IsMember({"auto", "off"}))
      ->default_str("auto");
}

}  // namespace tandem::cli
