// Builds the engine, then reads the weights, saying how far it is and how fast it was.
#include "engine/load.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "base/error.h"
#include "base/log.h"
#include "engine/cpu_engine.h"
#include "engine/expert_streaming.h"
#include "engine/gpu_engine.h"
#include "engine/machine_speeds.h"
#include "engine/plan_for.h"
#include "gguf/file.h"
#include "ops/gpu.h"

namespace tandem::engine {
namespace {

// A prompt's step where its experts are copied to a GPU. One copy of all layers serves the step:
// V2-Lite's 9.5 GB take 0.17 s over a bus of 55 GB/s, 4096 tokens compute for as long.
constexpr int32_t kLongStep = 4096;

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

// The GPU, if the model can run on it. Throws Error with the reason.
std::unique_ptr<ops::Gpu> open_gpu_for(const gguf::File& file, const models::ModelConfig& config,
                                       const Options& options) {
  std::unique_ptr<ops::Gpu> gpu = ops::open_gpu(options.gpu_memory_bytes);
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
}

PlanRequest request_for(const gguf::File& file, const models::ModelConfig& config,
                        const Options& options) {
  PlanRequest request;
  request.device = options.device;
  request.fixed = models::fixed_places(file, config, options.placement);
  request.cache_tokens = options.cache_tokens;
  request.cache_is_fixed = options.cache_is_fixed;
  request.other_host_bytes = options.other_memory_bytes;
  request.stream_from = std::max(options.stream_experts, 0);
  if (options.stream_experts != Options::kNever) {
    request.stream_buffer_bytes = 2 * largest_expert_layer_bytes(file);
  }
  if (options.hot.on) {
    request.most_hot_bytes =
        options.hot.gpu_bytes > 0 ? options.hot.gpu_bytes : std::numeric_limits<int64_t>::max();
  }
  return request;
}

// As the engine would work.
MachineSpeeds measure_for(const Options& options) {
  log::info("the GPU holds some layers only: measuring whether that is quicker than the CPU alone");
  platform::ThreadPool pool({.threads = options.threads, .pin = true});
  return measure_speeds(pool, cpu::select(options.cpu_isa), true);
}

}  // namespace

Planned plan_for(const gguf::File& file, const models::ModelConfig& config, const Options& options,
                 const std::function<MachineSpeeds()>& speeds) {
  PlanRequest request = request_for(file, config, options);
  std::unique_ptr<ops::Gpu> gpu;
  if (options.device != "cpu" && !request.fixed.cpu_only) {
    try {
      gpu = open_gpu_for(file, config, options);
      request.gpu_bytes = gpu->free_bytes();
    } catch (const Error& error) {
      request.no_gpu = error.what();
    }
  }
  const auto sizes_for = [&](int32_t tokens) {
    return models::sizes_of(file, config,
                            {.tokens = tokens,
                             .sequences = options.max_step_sequences,
                             .kv_type = options.kv_type,
                             .page_size = options.page_size});
  };
  int32_t tokens = std::max(options.max_step_tokens, options.long_step_tokens);
  ModelSizes sizes = sizes_for(tokens);
  // One stream that generates: prompts gain more from a GPU.
  request.quicker = [&](const Plan& divided, const Plan& cpu) {
    const MachineSpeeds machine = speeds();
    return predict(sizes, divided, machine, {}).tokens_per_second >
           predict(sizes, cpu, machine, {}).tokens_per_second;
  };
  Plan plan = make_plan(sizes, request);
  request.quicker = nullptr;
  const int32_t longer = std::min({kLongStep, config.context, options.cache_tokens});
  if (options.long_step_tokens == Options::kLongWhereStreamed && plan.streams() &&
      longer > tokens) {
    ModelSizes larger = sizes_for(longer);
    if (fits_with_buffers(larger, request)) {
      tokens = longer;
      sizes = std::move(larger);
      plan = make_plan(sizes, request);
    }
  }
  return {std::move(sizes), std::move(request), std::move(plan), tokens, std::move(gpu)};
}

std::unique_ptr<LocalEngine> load(const gguf::File& file, const Options& asked) {
  const models::ModelConfig config = models::read_config(file);
  Planned planned = plan_for(file, config, asked, [&] { return measure_for(asked); });
  for (const std::string& note : planned.request.fixed.notes) log::warn("{}", note);
  const Plan& plan = planned.plan;
  if (!plan.on_gpu) planned.gpu.reset();
  log::info("{}{}: {}", planned.gpu ? planned.gpu->name() + ": " : "", plan.summary(),
            plan.reason.empty() ? "they fit" : plan.reason);
  if (!asked.hot.file.empty() && plan.gpu.hot == 0) {
    log::warn("--hot_experts {}: there are no hot experts, neither read nor written: {}",
              asked.hot.file,
              plan.host.experts == 0 || !plan.on_gpu ? "no experts are in host memory beside a GPU"
                                                     : "no GPU memory is left");
  }
  Options options = asked;
  options.cache_tokens = plan.cache_tokens;
  options.max_step_tokens = planned.step_tokens;
  if (plan.on_gpu) {
    auto engine = std::make_unique<GpuEngine>(file, options, std::move(planned.gpu), plan);
    load_weights(*engine, options);
    engine->prepare_experts(options.hot, plan.gpu.hot);
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
  if (options.stream_experts > 0) {
    throw Error("--stream_experts {}: experts are copied to a GPU, this runs on the CPU",
                options.stream_experts);
  }
  auto engine = std::make_unique<CpuEngine>(file, options);
  load_weights(*engine, options);
  return engine;
}

}  // namespace tandem::engine
