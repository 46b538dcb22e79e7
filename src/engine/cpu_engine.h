// The engine on the CPU: one forward over the flat batch, then sampling, all in finish().
#pragma once

#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/load.h"
#include "engine/output_rows.h"
#include "engine/sampler.h"
#include "engine/token_places.h"
#include "models/model.h"
#include "ops/context.h"
#include "platform/thread_pool.h"

namespace tandem::engine {

class CpuEngine : public LocalEngine {
 public:
  // Throws Error for a model that is unsupported or does not fit. Nothing of its weights is read
  // before load_weights().
  CpuEngine(const gguf::File& file, const Options& options);
  void load_weights(const std::function<void(int64_t bytes)>& on_bytes) {
    decoder_->load(context_, on_bytes);
  }
  int64_t weight_file_bytes() const { return decoder_->weight_file_bytes(); }

  const EngineInfo& info() const override { return info_; }
  void begin(const Batch& batch) override;
  StepResult finish() override;
  void read_page(int32_t page, std::span<std::byte> out) override { cache_.read(page, out); }
  void write_page(int32_t page, std::span<const std::byte> in) override { cache_.write(page, in); }
  void copy_page(int32_t from, int32_t to) override { cache_.copy(from, to); }
  std::span<const float> logits(int32_t sequence) const override {
    return outputs_.logits_of(sequence, logits_);
  }
  std::string_view architecture() const override { return decoder_->config().architecture; }
  int64_t last_step_weight_bytes() const override { return decoder_->step_weight_bytes(); }
  void profile_into(ops::Profile* profile) override { context_.profile = profile; }

 private:
  // Lays the batch out for the decoder: each token's place, the rows to sample from.
  models::ForwardBatch lay_out(const Batch& batch);

  platform::ThreadPool pool_;
  std::unique_ptr<models::Decoder> decoder_;
  EngineInfo info_;
  ops::Workspace workspace_;
  KvCache cache_;
  ops::Context context_;

  TokenPlaces places_;
  OutputRows outputs_;
  Batch batch_;                // of the step begun
  std::vector<float> logits_;  // [B, V]
  Sampler sampler_;
};

}  // namespace tandem::engine
