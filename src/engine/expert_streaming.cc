// Layers by the tensors' names: blk.<layer>.ffn_*_exps.weight.
#include "engine/expert_streaming.h"

#include <algorithm>
#include <map>
#include <string>

#include "models/weights.h"
#include "ops/weight_memory.h"

namespace tandem::engine {

int64_t largest_expert_layer_bytes(const gguf::File& file) {
  constexpr int64_t kAlignment = 256;
  std::map<std::string, int64_t> layers;
  int64_t most = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const std::string name(info.name);
    if (!models::is_routed_experts(name)) continue;
    const int64_t bytes = ops::WeightMemory::bytes_of(info.tensor.dtype, info.tensor.shape, 1);
    int64_t& layer = layers[name.substr(0, name.find('.', name.find('.') + 1))];
    layer += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    most = std::max(most, layer);
  }
  return most;
}

}  // namespace tandem::engine
