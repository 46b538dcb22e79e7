// The hand-off of routed experts to the CPU: the GPU hands activations and routing on and goes on
// with the shared expert, the CPU works, its sum is added. References that the host's work keeps
// are the engine's and the model's, and live as long as graphs do.
#include "moe/gpu_experts.h"

#include <algorithm>

#include "ops/gpu.h"

namespace tandem::moe {
namespace {

using ops::Workspace;

void run_shared(ops::Context& ctx, const ExpertWeights& w, const ExpertStep& step) {
  const int64_t width = w.gate.cols();
  Workspace::Scope scope(ctx.workspace);
  if (step.shared_gate == nullptr) {
    ctx.gpu->feed_forward(ctx.workspace, {step.x, step.x_rounded}, step.tokens, w.gate, w.up,
                          {.w = w.down, .y = nullptr, .residual = step.residual});
    return;
  }
  float* y = scope.floats(static_cast<size_t>(step.tokens * width));  // [T, M]
  ctx.gpu->feed_forward(ctx.workspace, {step.x, step.x_rounded}, step.tokens, w.gate, w.up,
                        {.w = w.down, .y = y});
  ctx.gpu->add(y, step.shared_gate, step.tokens, width, step.residual);
}

// What the host does of one layer. Copies of it live as long as the graph that they are kept for.
struct CpuPart {
  ops::Context& ctx;
  const ExpertLayer& layer;
  Grouping& grouping;
  int used;

  void clear(const ops::HostExperts& host, float* sum) const {
    std::fill_n(sum, static_cast<size_t>(host.tokens * layer.routed.gate.cols()), 0.0F);
  }
  // sum += the experts of ranks [first, last) of each token.
  void add(const ops::HostExperts& host, int first, int last, float* sum) const {
    ops::Context cpu{ctx.pool, ctx.cpu, *ctx.host_workspace};
    Workspace::Scope scope(cpu.workspace);
    const int count = last - first;
    const int32_t* ids = host.ids;
    const float* weights = host.weights;
    if (count < used) {
      const auto bytes = static_cast<size_t>(host.tokens * count) * sizeof(float);
      auto* some_ids = reinterpret_cast<int32_t*>(scope.bytes(bytes));    // [T, count]
      auto* some_weights = reinterpret_cast<float*>(scope.bytes(bytes));  // [T, count]
      for (int64_t t = 0; t < host.tokens; ++t) {
        std::copy_n(ids + t * used + first, count, some_ids + t * count);
        std::copy_n(weights + t * used + first, count, some_weights + t * count);
      }
      ids = some_ids;
      weights = some_weights;
    }
    run_experts(cpu, {.routed = layer.routed, .shared = {}}, grouping,
                {.x = host.x,
                 .ids = ids,
                 .weights = weights,
                 .shared_gate = nullptr,
                 .tokens = host.tokens,
                 .used = count,
                 .residual = sum});
  }

  void now(const ops::HostExperts& host) const {
    if (!host.sum_begun) clear(host, host.sum);
    add(host, 0, used - host.deferred, host.sum);
  }
  void later(const ops::HostExperts& host) const {
    clear(host, host.next_sum);
    add(host, used - host.deferred, used, host.next_sum);
  }
};

}  // namespace

void run_experts_beside_gpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                            const ExpertStep& step) {
  const ops::GpuExperts routed = {.gate = &layer.routed.gate,
                                  .up = &layer.routed.up,
                                  .down = &layer.routed.down,
                                  .x = {step.x, step.x_rounded},
                                  .ids = step.ids,
                                  .weights = step.weights,
                                  .tokens = step.tokens,
                                  .used = step.used,
                                  .residual = step.residual,
                                  .last = layer.last};
  if (layer.routed.gate.device == Device::kCuda) {
    grouping.active.clear();
    if (layer.shared.gate) run_shared(ctx, layer.shared, step);
    ctx.gpu->experts(ctx.workspace, routed);
    return;
  }
  if (step.tokens >= layer.stream_from && ctx.gpu->streams_experts()) {
    grouping.active.clear();
    if (layer.shared.gate) run_shared(ctx, layer.shared, step);
    ctx.gpu->stream_experts(ctx.workspace, routed);
    return;
  }
  ctx.gpu->begin_host_experts(routed);
  if (layer.shared.gate) run_shared(ctx, layer.shared, step);
  ctx.gpu->hot_experts(ctx.workspace, routed);
  const CpuPart part{ctx, layer, grouping, step.used};
  ctx.gpu->end_host_experts(routed,
                            {.now = [part](const ops::HostExperts& host) { part.now(host); },
                             .later = [part](const ops::HostExperts& host) { part.later(host); }});
}

bool streamable(const ExpertWeights& w) {
  return w.gate.device == Device::kCpu && w.gate.layout == Layout::kPanels &&
         w.down.layout == Layout::kPanels && w.gate.dtype == w.up.dtype;
}

size_t experts_beside_gpu_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used) {
  const Tensor& gate = layer.routed.gate;
  const size_t row = Workspace::aligned(static_cast<size_t>(tokens * gate.cols()) * sizeof(float));
  size_t bytes = 0;
  // In host memory they may be streamed, or hot.
  if (gate.device == Device::kCuda || streamable(layer.routed)) {
    bytes = std::max(bytes, ops::Gpu::experts_workspace_bytes(gate, tokens, used));
  }
  if (layer.shared.gate) {
    bytes = std::max(bytes, row + ops::feed_forward_workspace_bytes(tokens, layer.shared.gate, 1));
  }
  return bytes;
}

}  // namespace tandem::moe
