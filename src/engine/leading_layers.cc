// The decoder works in the page-locked buffer, so that one copy is all there is between the sides.
#include "engine/leading_layers.h"

#include <algorithm>

namespace tandem::engine {

LeadingLayers::LeadingLayers(models::Decoder& decoder, int layers, ops::Gpu& gpu,
                             const ops::KvLayer& form, const EngineInfo& info)
    : decoder_(decoder), gpu_(gpu), cache_(form, layers, info.num_pages), places_(info) {
  const auto bytes = static_cast<size_t>(info.max_step_tokens) *
                     static_cast<size_t>(decoder.config().hidden) * sizeof(float);
  on_host_ = gpu.pinned(bytes);
  on_gpu_ = {gpu.allocate(static_cast<int64_t>(bytes), "activations"), bytes};
  // Graphs are captured on them before there is a step.
  std::fill(on_host_.begin(), on_host_.end(), std::byte{0});
  gpu.upload(on_host_, on_gpu_.data());
}

int64_t LeadingLayers::memory_bytes() const {
  return cache_.bytes() + static_cast<int64_t>(on_host_.size());
}

void LeadingLayers::run(ops::Context& ctx, const Batch& batch, int rows) {
  const ops::PagedTokens where = places_.lay_out(batch);
  decoder_.forward(ctx,
                   {.ids = batch.tokens.data(),
                    .where = where,
                    .output_rows = nullptr,
                    .outputs = 0,
                    .logits = nullptr,
                    .residual = reinterpret_cast<float*>(on_host_.data())},
                   cache_.layers(), {0, count()});
  const size_t row = static_cast<size_t>(decoder_.config().hidden) * sizeof(float);
  const size_t tokens = batch.tokens.size(), all = std::max(tokens, static_cast<size_t>(rows));
  const std::span<std::byte> padding = on_host_.subspan(tokens * row, (all - tokens) * row);
  std::fill(padding.begin(), padding.end(), std::byte{0});
  gpu_.write(on_host_.first(all * row), on_gpu_.data());
}

}  // namespace tandem::engine
