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
    ctx.gpu->feed_forward(ctx.workspace, step.x, step.tokens, w.gate, w.up,
                          {.w = w.down, .y = nullptr, .residual = step.residual});
    return;
  }
  float* y = scope.floats(static_cast<size_t>(step.tokens * width));  // [T, M]
  ctx.gpu->feed_forward(ctx.workspace, step.x, step.tokens, w.gate, w.up, {.w = w.down, .y = y});
  ctx.gpu->add(y, step.shared_gate, step.tokens, width, step.residual);
}

void run_on_cpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping, int used,
                const ops::HostExperts& host) {
  std::fill_n(host.sum, static_cast<size_t>(host.tokens * layer.routed.gate.cols()), 0.0F);
  ops::Context cpu{ctx.pool, ctx.cpu, *ctx.host_workspace};
  run_experts(cpu, {.routed = layer.routed, .shared = {}}, grouping,
              {.x = host.x,
               .ids = host.ids,
               .weights = host.weights,
               .shared_gate = nullptr,
               .tokens = host.tokens,
               .used = used,
               .residual = host.sum});
}

}  // namespace

void run_experts_beside_gpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                            const ExpertStep& step) {
  const ops::GpuExperts routed = {.gate = &layer.routed.gate,
                                  .up = &layer.routed.up,
                                  .down = &layer.routed.down,
                                  .x = step.x,
                                  .ids = step.ids,
                                  .weights = step.weights,
                                  .tokens = step.tokens,
                                  .used = step.used,
                                  .residual = step.residual};
  if (layer.routed.gate.device == Device::kCuda) {
    grouping.active.clear();
    if (layer.shared.gate) run_shared(ctx, layer.shared, step);
    ctx.gpu->experts(ctx.workspace, routed);
    return;
  }
  ctx.gpu->begin_host_experts(routed);
  if (layer.shared.gate) run_shared(ctx, layer.shared, step);
  ctx.gpu->end_host_experts(
      routed, [&ctx, &layer, &grouping, used = step.used](const ops::HostExperts& host) {
        run_on_cpu(ctx, layer, grouping, used, host);
      });
}

size_t experts_beside_gpu_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used) {
  const Tensor& gate = layer.routed.gate;
  const size_t row = Workspace::aligned(static_cast<size_t>(tokens * gate.cols()) * sizeof(float));
  size_t bytes = 0;
  if (gate.device == Device::kCuda) {
    bytes = std::max(bytes, ops::Gpu::experts_workspace_bytes(gate, tokens, used));
  }
  if (layer.shared.gate) {
    bytes = std::max(bytes, row + ops::feed_forward_workspace_bytes(tokens, layer.shared.gate, 1));
  }
  return bytes;
}

}  // namespace tandem::moe
