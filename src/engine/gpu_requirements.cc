// Each refusal says what to change.
#include "engine/gpu_requirements.h"

#include <algorithm>

#include "base/error.h"
#include "platform/topology.h"

namespace tandem::engine {

// Leading dense layers have none.
bool some_experts_on(Device device, const models::MoeConfig& moe, const Plan& plan) {
  const auto first = plan.experts.begin() +
                     std::min<std::ptrdiff_t>(std::max(moe.leading_dense_layers, plan.cpu_layers),
                                              std::ssize(plan.experts));
  return std::find(first, plan.experts.end(), device) != plan.experts.end();
}

void require_host_memory(const models::Decoder& decoder, int64_t work, const Options& options) {
  constexpr int64_t kMib = int64_t{1} << 20;
  const int64_t weights = decoder.weight_memory_bytes();
  const int64_t available = platform::read_topology().available_bytes;
  if (weights + work + options.other_memory_bytes <= available) return;
  throw Error(
      "not enough memory: weights {} MiB, KV cache and working memory {} MiB, --host_cache_gb {} "
      "MiB, {} MiB are available; take a smaller model, fewer bits a weight, a smaller "
      "--chunk_size or --cache_lens",
      weights / kMib, work / kMib, options.other_memory_bytes / kMib, available / kMib);
}

// A deferred sum is added with the next layer's experts, so all layers' have to be in host memory.
void require_deferrable(const models::MoeConfig& moe, const Plan& plan, const Options& options) {
  const int used = moe.routing.used;
  const int deferred = options.defer_experts;
  if (deferred == 0) return;
  if (used == 0) throw Error("--defer_experts {}: the model has no routed experts", deferred);
  if (some_experts_on(Device::kCuda, moe, plan)) {
    throw Error("--defer_experts {}: routed experts are on the GPU; keep them off with --cpu_moe",
                deferred);
  }
  if (!some_experts_on(Device::kCpu, moe, plan)) {
    throw Error(
        "--defer_experts {}: no routed experts are in host memory beside a layer on the GPU",
        deferred);
  }
  if (deferred >= used) {
    throw Error("--defer_experts {}: a token has {} experts, one at least is not deferred",
                deferred, used);
  }
}

}  // namespace tandem::engine
