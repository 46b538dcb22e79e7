// Layers by the tensors' names.
#include "engine/expert_streaming.h"

#include <algorithm>
#include <map>

#include "models/placement.h"
#include "ops/context.h"
#include "ops/weight_memory.h"

namespace tandem::engine {

int64_t largest_expert_layer_bytes(const gguf::File& file) {
  std::map<int, int64_t> layers;
  int64_t most = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    if (!models::is_routed_experts(info.name)) continue;
    const int64_t bytes = ops::WeightMemory::bytes_of(info.tensor.dtype, info.tensor.shape, 1);
    int64_t& layer = layers[models::layer_of(info.name)];
    layer += static_cast<int64_t>(ops::Workspace::aligned(static_cast<size_t>(bytes)));
    most = std::max(most, layer);
  }
  return most;
}

}  // namespace tandem::engine
