// What planning counts (models/model_sizes.h), all layers together.
#include "models/work.h"

#include "models/model_sizes.h"

namespace tandem::models {
namespace {

void add(Work& work, const Macs& macs) {
  work.macs += macs.total();
  work.int8_products += macs.a256 + 2.0 * macs.a32;
}

}  // namespace

TokenWork work_per_token(const gguf::File& file, const ModelConfig& config) {
  const ModelSizes sizes = sizes_of(file, config, {});
  TokenWork work;
  for (const LayerSizes& layer : sizes.layers) {
    add(work.layers, layer.fixed);
    add(work.layers, layer.experts);
  }
  add(work.output, sizes.output);
  return work;
}

}  // namespace tandem::models
