// Small things that several verbs need.
#pragma once

#include <string>

#include "base/dtype.h"
#include "engine/load.h"

namespace CLI {
class App;
}

namespace tandem::cli {

// The whole file; throws Error when it cannot be read.
std::string read_text_file(const std::string& path);

// "f32", "f16" or "bf16"; throws Error for anything else.
DType parse_kv_type(const std::string& name);

// --numa auto|off
void add_numa_option(CLI::App& verb, bool& numa);

// --device and what says where weights go: --cpu_moe, --n-cpu-moe, --override-tensor,
// --n-gpu-layers, --optimize_config_path, --gpu_memory_gb; and how experts in host memory run:
// --defer_experts, --stream_experts
void add_device_options(CLI::App& verb, engine::Options& options);

}  // namespace tandem::cli
