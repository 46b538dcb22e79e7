// The hand-off of routed experts to the CPU: activations and routing go to page-locked memory, the
// GPU goes on with the shared expert, the CPU works, its sum comes back and is added. References
// that the host's work keeps are the engine's and the model's, and live as long as graphs do.
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

// One step's operands of the routed experts in page-locked memory.
struct HandOff {
  float* x;        // [T, M]
  float* sum;      // [T, M]
  int32_t* ids;    // [T, K]
  float* weights;  // [T, K]

  static HandOff in(ops::Gpu& gpu, int64_t tokens, int64_t width, int used) {
    const auto rows = Workspace::aligned(static_cast<size_t>(tokens * width) * sizeof(float));
    const auto slots = Workspace::aligned(static_cast<size_t>(tokens * used) * sizeof(float));
    std::byte* memory = gpu.pinned(2 * rows + 2 * slots).data();
    return {reinterpret_cast<float*>(memory), reinterpret_cast<float*>(memory + rows),
            reinterpret_cast<int32_t*>(memory + 2 * rows),
            reinterpret_cast<float*>(memory + 2 * rows + slots)};
  }
};

HandOff send(ops::Gpu& gpu, const ExpertStep& step, int64_t width) {
  const HandOff host = HandOff::in(gpu, step.tokens, width, step.used);
  const auto slots = static_cast<size_t>(step.tokens * step.used);
  gpu.read(step.x, static_cast<size_t>(step.tokens * width) * sizeof(float),
           reinterpret_cast<std::byte*>(host.x));
  gpu.read(step.ids, slots * sizeof(int32_t), reinterpret_cast<std::byte*>(host.ids));
  gpu.read(step.weights, slots * sizeof(float), reinterpret_cast<std::byte*>(host.weights));
  gpu.begin_host_work();
  return host;
}

// The routed experts' sum for the step's tokens, without padding, from and to page-locked memory.
void run_on_cpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                const HandOff& host, int used) {
  const int64_t tokens = ctx.gpu->live_tokens();
  std::fill_n(host.sum, static_cast<size_t>(tokens * layer.routed.gate.cols()), 0.0F);
  ops::Context cpu{ctx.pool, ctx.cpu, *ctx.host_workspace};
  run_experts(cpu, {.routed = layer.routed, .shared = {}}, grouping,
              {.x = host.x,
               .ids = host.ids,
               .weights = host.weights,
               .shared_gate = nullptr,
               .tokens = tokens,
               .used = used,
               .residual = host.sum});
}

}  // namespace

void run_experts_beside_gpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                            const ExpertStep& step) {
  const int64_t width = layer.routed.gate.cols();
  if (layer.routed.gate.device == Device::kCuda) {
    grouping.active.clear();
    if (layer.shared.gate) run_shared(ctx, layer.shared, step);
    ctx.gpu->experts(ctx.workspace, {.gate = &layer.routed.gate,
                                     .up = &layer.routed.up,
                                     .down = &layer.routed.down,
                                     .x = {step.x, step.x_rounded},
                                     .ids = step.ids,
                                     .weights = step.weights,
                                     .tokens = step.tokens,
                                     .used = step.used,
                                     .residual = step.residual});
    return;
  }
  const HandOff host = send(*ctx.gpu, step, width);
  if (layer.shared.gate) run_shared(ctx, layer.shared, step);
  ctx.gpu->end_host_work([&ctx, &layer, &grouping, host, used = step.used] {
    run_on_cpu(ctx, layer, grouping, host, used);
  });
  Workspace::Scope scope(ctx.workspace);
  const auto values = static_cast<size_t>(step.tokens * width);
  float* sum = scope.floats(values);  // [T, M]
  ctx.gpu->write(reinterpret_cast<const std::byte*>(host.sum), values * sizeof(float), sum);
  ctx.gpu->add(sum, nullptr, step.tokens, width, step.residual);
}

size_t experts_beside_gpu_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used) {
  const Tensor& gate = layer.routed.gate;
  const size_t row = Workspace::aligned(static_cast<size_t>(tokens * gate.cols()) * sizeof(float));
  size_t bytes = row;  // of the routed experts' sum
  if (gate.device == Device::kCuda) {
    bytes = std::max(bytes, ops::Gpu::experts_workspace_bytes(gate, tokens, used));
  }
  if (layer.shared.gate) {
    bytes = std::max(bytes, row + ops::feed_forward_workspace_bytes(tokens, layer.shared.gate, 1));
  }
  return bytes;
}

}  // namespace tandem::moe
