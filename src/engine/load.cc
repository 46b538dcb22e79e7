// Builds the engine, then reads the weights, saying how far it is and how fast it was.
#include "engine/load.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/log.h"
#include "engine/cpu_engine.h"
#include "engine/gpu_engine.h"
#include "gguf/file.h"
#include "ops/gpu.h"

namespace tandem::engine {
namespace {

template <typename SomeEngine>
void load_weights(SomeEngine& engine, const Options& options) {
  const auto total = static_cast<double>(std::max<int64_t>(engine.weight_file_bytes(), 1));
  const auto start = std::chrono::steady_clock::now();
  double reported = -1.0;
  engine.load_weights([&](int64_t bytes) {
    const double share = static_cast<double>(bytes) / total;
    // A call for each percent at most.
    if (!options.on_progress || (share - reported < 0.01 && share < 1.0)) return;
    options.on_progress(share, "reading weights");
    reported = share;
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  log::info("read {:.2f} GB of weights in {:.2f} s, {:.1f} GB/s", total / 1e9, elapsed.count(),
            total / 1e9 / elapsed.count());
}

// The GPU, where the options want one and the model can run on it; else nothing, and the log says
// why.
std::unique_ptr<ops::Gpu> gpu_for(const gguf::File& file, const models::ModelConfig& config,
                                  const Options& options) {
  if (options.device == "cpu") return nullptr;
  try {
    std::unique_ptr<ops::Gpu> gpu = ops::open_gpu();
    const bool latent = config.mla.kv_lora > 0;
    std::string reason =
        gpu->unsupported({.cache = {.data = nullptr,
                                    .dtype = options.kv_type,
                                    .page_size = options.page_size != 0 ? options.page_size : 64,
                                    .page_bytes = 0,
                                    .kv_heads = config.kv_heads,
                                    .key_dim = config.key_dim,
                                    .value_dim = config.value_dim,
                                    .shared_values = latent},
                          .heads = config.heads,
                          .max_tokens = 1,
                          .max_sequences = 1,
                          .max_pages = 1});
    for (const gguf::TensorInfo& info : file.tensors()) {
      if (models::is_routed_experts(info.name) || gpu->has_kernels(info.tensor.dtype)) continue;
      reason = fmt::format("it has no kernels for the type of {}", info.name);
    }
    if (!reason.empty()) throw Error("{} does not run this model: {}", gpu->name(), reason);
    return gpu;
  } catch (const Error& error) {
    if (options.device == "cuda") throw;
    log::info("running on the CPU: {}", error.what());
    return nullptr;
  }
}

struct Bytes {
  int64_t routed = 0;  // experts
  int64_t rest = 0;
  bool routed_have_kernels = true;
};

Bytes weight_bytes(const gguf::File& file, const ops::Gpu& gpu) {
  Bytes bytes;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const bool routed = models::is_routed_experts(info.name);
    (routed ? bytes.routed : bytes.rest) += static_cast<int64_t>(info.bytes);
    if (routed) bytes.routed_have_kernels &= gpu.has_expert_kernels(info.tensor.dtype);
  }
  return bytes;
}

// Of the whole cache in 16-bit floats.
int64_t cache_bytes(const models::ModelConfig& config, const Options& options) {
  const int64_t row = config.mla.kv_lora > 0
                          ? config.key_dim
                          : int64_t{config.kv_heads} * (config.key_dim + config.value_dim);
  return int64_t{options.cache_tokens} * config.layers * row * 2;
}

// Whether the experts fit beside everything else, with a tenth of the memory for scratch.
bool experts_fit(const gguf::File& file, const models::ModelConfig& config, const Options& options,
                 const ops::Gpu& gpu) {
  const Bytes bytes = weight_bytes(file, gpu);
  if (options.cpu_moe || !bytes.routed_have_kernels) return false;
  return bytes.routed + bytes.rest + cache_bytes(config, options) < gpu.free_bytes() / 10 * 9;
}

}  // namespace

std::unique_ptr<LocalEngine> load(const gguf::File& file, const Options& options) {
  const models::ModelConfig config = models::read_config(file);
  if (std::unique_ptr<ops::Gpu> gpu = gpu_for(file, config, options)) {
    const bool experts_on_gpu = experts_fit(file, config, options, *gpu);
    log::info(
        "{}: {}", gpu->name(),
        experts_on_gpu ? "all weights" : "all weights but routed experts, which are the CPU's");
    auto engine = std::make_unique<GpuEngine>(file, options, std::move(gpu), experts_on_gpu);
    load_weights(*engine, options);
    if (options.use_cuda_graph) {
      if (options.on_progress) options.on_progress(1.0, "capturing graphs");
      engine->capture_graphs();
    }
    return engine;
  }
  if (options.defer_experts > 0) {
    throw Error("--defer_experts {}: experts are deferred beside a GPU only, this runs on the CPU",
                options.defer_experts);
  }
  auto engine = std::make_unique<CpuEngine>(file, options);
  load_weights(*engine, options);
  return engine;
}

}  // namespace tandem::engine
