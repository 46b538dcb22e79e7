// The first layers of a model on the CPU, before those on a GPU: their cache in host memory, a
// step's part in them, and the copy of the activations that they hand on.
#pragma once

#include <span>

#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/token_places.h"
#include "models/model.h"
#include "ops/context.h"
#include "ops/gpu.h"

namespace tandem::engine {

class LeadingLayers {
 public:
  // form: of one layer's cache on the CPU.
  LeadingLayers(models::Decoder& decoder, int layers, ops::Gpu& gpu, const ops::KvLayer& form,
                const EngineInfo& info);

  int count() const { return static_cast<int>(cache_.layers().size()); }
  std::span<const ops::KvLayer> cache() const { return cache_.layers(); }
  // Reserved: the cache, and what activations are copied from.
  int64_t memory_bytes() const;

  // Runs them over the batch on the CPU, then enqueues the copy. rows: what the batch is filled up
  // to with zeros, 0: nothing. The GPU must be done with the step before.
  void run(ops::Context& ctx, const Batch& batch, int rows);
  // [T, M] on the GPU, where the layers there work on them.
  float* activations() const { return reinterpret_cast<float*>(on_gpu_.data()); }

 private:
  models::Decoder& decoder_;
  ops::Gpu& gpu_;
  KvCache cache_;
  TokenPlaces places_;
  std::span<std::byte> on_host_;  // [T, M] page-locked
  std::span<std::byte> on_gpu_;   // [T, M]
};

}  // namespace tandem::engine
