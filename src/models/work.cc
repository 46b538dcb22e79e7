// Counted from the file's tensors: all matrices of the layers, of stacks of experts the share that
// a token is sent to.
#include "models/work.h"

#include <string>
#include <string_view>

#include "models/weights.h"
#include "quant/types.h"

namespace tandem::models {
namespace {

double products_per_mac(DType dtype) {
  switch (quant::traits(dtype).activation) {
    case quant::ActivationFormat::kF32:
      return 0.0;
    case quant::ActivationFormat::kA32:
      return 2.0;
    case quant::ActivationFormat::kA256:
      return 1.0;
  }
  return 0.0;
}

void add(Work& work, const Tensor& w, double share) {
  const double macs = static_cast<double>(w.rows()) * static_cast<double>(w.cols()) * share;
  work.macs += macs;
  work.int8_products += macs * products_per_mac(w.dtype);
}

// The joint matrix of older files is ignored where a file has its halves too.
bool is_unused(const gguf::File& file, const std::string& layer, std::string_view name) {
  return name == "attn_kv_b.weight" && file.find_tensor(layer + "attn_k_b.weight") != nullptr;
}

}  // namespace

TokenWork work_per_token(const gguf::File& file, const ModelConfig& config) {
  TokenWork work;
  const moe::RoutingConfig& routing = config.moe.routing;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const size_t name_begin = info.name.find('.', 4) + 1;  // behind "blk.7."
    if (!info.name.starts_with("blk.") || name_begin == 0 || info.tensor.rows() < 2) continue;
    const std::string layer(info.name.substr(0, name_begin));
    if (is_unused(file, layer, info.name.substr(name_begin))) continue;
    const bool routed = is_routed_experts(info.name);
    add(work.layers, info.tensor,
        routed ? static_cast<double>(routing.used) / static_cast<double>(routing.experts) : 1.0);
  }
  const gguf::TensorInfo* output = file.find_tensor("output.weight");
  if (output == nullptr) output = file.find_tensor("token_embd.weight");
  if (output != nullptr) add(work.output, output->tensor, 1.0);
  return work;
}

}  // namespace tandem::models
