// More on the GPU is faster, so the first plan that fits is taken: prediction only compares.
#include "engine/planner.h"

#include <algorithm>

#include "base/error.h"

namespace tandem::engine {
namespace {

// A cache that nobody asked for in tokens is lowered to this at most.
constexpr int32_t kSmallestCache = 4096;

double gb(int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

// What goes where, before it is counted.
struct Division {
  bool on_gpu;
  int cpu_layers;
  std::vector<Device> experts;  // [L]
  int32_t cache_tokens;
};

Division division_of(const Plan& plan) {
  return {plan.on_gpu, plan.cpu_layers, plan.experts, plan.cache_tokens};
}

void count_layers(const ModelSizes& model, Plan& plan) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const LayerSizes& layer = model.layers[i];
    const bool on_gpu = plan.on_gpu && i >= static_cast<size_t>(plan.cpu_layers);
    (on_gpu ? plan.gpu : plan.host).fixed += layer.fixed_bytes;
    (on_gpu ? plan.gpu : plan.host).cache +=
        int64_t{plan.cache_tokens} * model.cache_bytes_per_token / std::ssize(model.layers);
    const bool experts_on_gpu = on_gpu && plan.experts[i] == Device::kCuda;
    (experts_on_gpu ? plan.gpu : plan.host).experts += layer.experts_bytes;
    if (layer.experts_bytes == 0 || on_gpu != plan.on_gpu) continue;
    ++plan.expert_layers;
    plan.expert_layers_on_gpu += experts_on_gpu ? 1 : 0;
  }
}

// The embedding lies beside the first layer, the output behind the last: where that is not the same
// memory, a matrix that is both lies in both.
void count_tables(const ModelSizes& model, Plan& plan) {
  MemoryUse& output = plan.on_gpu ? plan.gpu : plan.host;
  output.fixed += model.output_bytes;
  if (plan.on_gpu && plan.cpu_layers > 0) {
    plan.host.fixed += model.embedding_bytes;
  } else if (!model.tied) {
    output.fixed += model.embedding_bytes;
  }
}

// Layers whose experts, in host memory, the GPU may run out of its buffers.
std::vector<bool> streamed_layers(const ModelSizes& model, const PlanRequest& request,
                                  const Plan& plan) {
  std::vector<bool> streamed(model.layers.size());
  if (!plan.on_gpu || request.stream_buffer_bytes == 0) return streamed;
  for (auto i = static_cast<size_t>(plan.cpu_layers); i < streamed.size(); ++i) {
    const LayerSizes& layer = model.layers[i];
    const bool kept = i < request.fixed.cpu_prefill.size() && request.fixed.cpu_prefill[i];
    streamed[i] = layer.experts_bytes > 0 && plan.experts[i] == Device::kCpu && !kept &&
                  layer.without_gpu_kernels.empty();
  }
  return streamed;
}

Plan sized(const ModelSizes& model, const PlanRequest& request, Division division) {
  Plan plan;
  plan.on_gpu = division.on_gpu;
  plan.cpu_layers = division.cpu_layers;
  plan.experts = std::move(division.experts);
  plan.cache_tokens = division.cache_tokens;
  count_layers(model, plan);
  count_tables(model, plan);
  plan.host.work = model.host_work_bytes + request.other_host_bytes;
  if (plan.on_gpu) plan.gpu.work = model.gpu_work_bytes;
  plan.streamed = streamed_layers(model, request, plan);
  plan.stream_from = request.stream_from;
  if (plan.streams()) plan.gpu.work += request.stream_buffer_bytes;
  return plan;
}

// Panels are larger than the file's rows by up to this share.
constexpr int64_t kPanelShare = 64;

// What is left goes to copies of the experts that are in host memory.
void add_hot_experts(const ModelSizes& model, const PlanRequest& request, Plan& plan) {
  int64_t experts = 0;
  for (auto i = static_cast<size_t>(plan.cpu_layers); i < model.layers.size(); ++i) {
    if (plan.experts[i] == Device::kCuda || !model.layers[i].without_gpu_kernels.empty()) continue;
    experts += model.layers[i].experts_bytes;
  }
  plan.gpu.hot =
      std::clamp<int64_t>(*request.gpu_bytes - plan.gpu.total(), 0,
                          std::min(experts + experts / kPanelShare, request.most_hot_bytes));
}

// Of the layers behind the first `cpu_layers` the experts that the wishes fix on the GPU.
Division with_fewest_experts(const ModelSizes& model, const PlanRequest& request, int cpu_layers) {
  Division division = {true, cpu_layers, std::vector(model.layers.size(), Device::kCpu),
                       request.cache_tokens};
  const size_t count = std::min(model.layers.size(), request.fixed.experts.size());
  for (auto i = static_cast<size_t>(cpu_layers); i < count; ++i) {
    division.experts[i] = request.fixed.experts[i].value_or(Device::kCpu);
  }
  return division;
}

bool is_open(const ModelSizes& model, const PlanRequest& request, const Plan& plan, size_t layer) {
  const bool fixed = layer < request.fixed.experts.size() && request.fixed.experts[layer];
  return static_cast<int>(layer) >= plan.cpu_layers && model.layers[layer].experts_bytes > 0 &&
         !fixed && model.layers[layer].without_gpu_kernels.empty();
}

void require_kernels(const ModelSizes& model, const std::vector<Device>& experts) {
  for (size_t i = 0; i < experts.size(); ++i) {
    const LayerSizes& layer = model.layers[i];
    if (experts[i] == Device::kCpu || layer.without_gpu_kernels.empty()) continue;
    throw Error(
        "layer {}: its experts are wanted on the GPU, which has no kernels for experts of {}", i,
        layer.without_gpu_kernels);
  }
}

std::string arithmetic(const MemoryUse& use, int64_t available) {
  return fmt::format(
      "weights {:.2f} GB, experts {:.2f} GB, KV cache {:.2f} GB, working memory and graphs {:.2f} "
      "GB, in all {:.2f} GB; {:.2f} GB are free",
      gb(use.fixed), gb(use.experts), gb(use.cache), gb(use.work), gb(use.total()), gb(available));
}

// Tokens of the cache that fit beside all else, in whole pages.
int32_t tokens_that_fit(const ModelSizes& model, const Plan& plan, int64_t available) {
  const int64_t room = available - (plan.gpu.total() - plan.gpu.cache);
  const int64_t layers = std::ssize(model.layers);
  const int64_t page = model.cache_bytes_per_token * model.page_size * (layers - plan.cpu_layers) /
                       std::max<int64_t>(layers, 1);
  const int64_t pages = room / std::max<int64_t>(page, 1);
  return static_cast<int32_t>(
      std::clamp<int64_t>(pages * model.page_size, 0, int64_t{plan.cache_tokens}));
}

std::string why_cpu(const PlanRequest& request) {
  if (request.device == "cpu") return "--device cpu";
  return request.fixed.cpu_only ? "all tensors are wanted there" : request.no_gpu;
}

// The experts of further layers, from the last on, while there is room. All of them take no
// buffers, so they may fit where all but one do not.
void add_experts(const ModelSizes& model, const PlanRequest& request, Plan& plan) {
  Division division = division_of(plan);
  for (size_t i = 0; i < division.experts.size(); ++i) {
    if (is_open(model, request, plan, i)) division.experts[i] = Device::kCuda;
  }
  Plan all = sized(model, request, division);
  if (all.gpu.total() <= *request.gpu_bytes) {
    plan = std::move(all);
    return;
  }
  // The same memory serves more tokens as the most used experts of every layer than as all those of
  // some layers.
  if (request.most_hot_bytes >= *request.gpu_bytes - plan.gpu.total()) return;
  division = division_of(plan);
  for (size_t i = division.experts.size(); i-- > 0;) {
    if (!is_open(model, request, plan, i)) continue;
    division.experts[i] = Device::kCuda;
    Plan larger = sized(model, request, division);
    if (larger.gpu.total() > *request.gpu_bytes) break;
    plan = std::move(larger);
  }
}

// Memory that is left, to experts.
void use_the_rest(const ModelSizes& model, const PlanRequest& request, Plan& plan) {
  add_experts(model, request, plan);
  add_hot_experts(model, request, plan);
}

std::string taken(const Plan& plan, int64_t available) {
  return fmt::format("{:.2f} of {:.2f} GB of the GPU are taken",
                     gb(plan.gpu.total() - plan.gpu.hot), gb(available));
}

// Where not even all but the experts fit: some of the layers, or the CPU alone.
Plan plan_for_small_gpu(const ModelSizes& model, const PlanRequest& request,
                        const Plan& too_large) {
  const int64_t available = *request.gpu_bytes;
  const std::string text = arithmetic(too_large.gpu, available);
  const bool wants_gpu = request.device == "cuda" || request.fixed.needs_gpu;
  PlanRequest without = request;
  without.no_gpu = "the GPU is too small: " + text;
  // Whoever asks for streaming is told that the buffers do not fit: nothing else gives way to them.
  const int64_t buffers = too_large.streams() ? request.stream_buffer_bytes : 0;
  if (too_large.gpu.total() - buffers > available) {
    if (std::optional<Plan> divided = plan_with_last_layers(model, request)) {
      if (wants_gpu || !request.quicker || request.quicker(*divided, plan_on_cpu(model, without))) {
        divided->reason = "all do not fit; " + taken(*divided, available);
        return std::move(*divided);
      }
      without.no_gpu += "; the CPU alone is predicted quicker than with " + divided->summary();
    }
    if (!wants_gpu && !request.cache_is_fixed) return plan_on_cpu(model, without);
  }
  throw Error(
      "the GPU is too small: {}; take a smaller --cache_lens or --chunk_size{}{}, a smaller "
      "--n-gpu-layers, or --device cpu",
      text, too_large.streams() ? ", --stream_experts off" : "",
      too_large.gpu.experts > 0 ? ", --cpu_moe or a larger --n-cpu-moe" : "");
}

}  // namespace

std::string Plan::summary() const {
  if (!on_gpu) return "everything on the CPU";
  const auto layers = std::ssize(experts);
  const std::string on_it =
      cpu_layers == 0 ? "all weights on the GPU"
      : cpu_layers == layers
          ? "the output on the GPU, all layers on the CPU"
          : fmt::format("the last {} of {} layers on the GPU, the others on the CPU",
                        layers - cpu_layers, layers);
  if (expert_layers_on_gpu == expert_layers) return on_it;
  const char* joint = cpu_layers == 0 ? " but " : ", and ";
  if (expert_layers_on_gpu == 0) return on_it + joint + "routed experts";
  return fmt::format("{}{}the routed experts of {} of {} layers", on_it, joint,
                     expert_layers - expert_layers_on_gpu, expert_layers);
}

Plan plan_on_cpu(const ModelSizes& model, const PlanRequest& request) {
  Plan plan =
      sized(model, request,
            {false, 0, std::vector(model.layers.size(), Device::kCpu), request.cache_tokens});
  plan.reason = why_cpu(request);
  return plan;
}

Plan plan_with_experts(const ModelSizes& model, const PlanRequest& request, int layers) {
  std::vector<Device> experts(model.layers.size(), Device::kCpu);
  for (size_t i = experts.size(); i-- > 0 && layers > 0;) {
    const LayerSizes& layer = model.layers[i];
    if (layer.experts_bytes == 0 || !layer.without_gpu_kernels.empty()) continue;
    experts[i] = Device::kCuda;
    --layers;
  }
  return sized(model, request, {true, 0, std::move(experts), request.cache_tokens});
}

std::optional<Plan> plan_with_last_layers(const ModelSizes& model, const PlanRequest& request) {
  const int most = std::min(static_cast<int>(model.layers.size()), request.fixed.gpu_from);
  for (int cpu_layers = request.fixed.cpu_layers; cpu_layers <= most; ++cpu_layers) {
    Plan plan = sized(model, request, with_fewest_experts(model, request, cpu_layers));
    if (plan.gpu.total() > request.gpu_bytes.value_or(0)) continue;
    use_the_rest(model, request, plan);
    return plan;
  }
  return std::nullopt;
}

bool fits_with_buffers(const ModelSizes& model, const PlanRequest& request) {
  const Division division = with_fewest_experts(model, request, request.fixed.cpu_layers);
  return sized(model, request, division).gpu.total() <= request.gpu_bytes.value_or(0);
}

Plan make_plan(const ModelSizes& model, const PlanRequest& asked) {
  PlanRequest request = asked;
  if (request.stream_from == 0 && !fits_with_buffers(model, request)) {
    request.stream_buffer_bytes = 0;
  }
  const bool wants_cpu = request.device == "cpu" || request.fixed.cpu_only;
  if (wants_cpu || !request.gpu_bytes) {
    if (request.fixed.needs_gpu) {
      throw Error("placement rules want tensors on the GPU: {}", why_cpu(request));
    }
    if (request.device == "cuda" && !wants_cpu) throw Error("--device cuda: {}", request.no_gpu);
    if (request.device == "cuda") throw Error("--device cuda: placement rules leave nothing to it");
    return plan_on_cpu(model, request);
  }
  Division division = with_fewest_experts(model, request, request.fixed.cpu_layers);
  require_kernels(model, division.experts);
  const int64_t available = *request.gpu_bytes;
  Plan plan = sized(model, request, division);
  if (plan.gpu.total() > available && !request.cache_is_fixed) {
    const int32_t tokens = tokens_that_fit(model, plan, available);
    if (tokens >= std::min(kSmallestCache, request.cache_tokens)) {
      division.cache_tokens = tokens;
      plan = sized(model, request, division);
      plan.reason = fmt::format("the KV cache is lowered from {} to {} tokens, which fit",
                                request.cache_tokens, tokens);
      return plan;
    }
  }
  if (plan.gpu.total() > available) return plan_for_small_gpu(model, request, plan);
  use_the_rest(model, request, plan);
  if (plan.expert_layers_on_gpu < plan.expert_layers) {
    plan.reason = taken(plan, available);
    if (asked.stream_buffer_bytes > request.stream_buffer_bytes) {
      plan.reason += fmt::format(
          "; no room for the {:.2f} GB of two buffers, so prompts' experts stay on the CPU",
          gb(asked.stream_buffer_bytes));
    }
  }
  return plan;
}

}  // namespace tandem::engine
