// The engine with activations and cache on a GPU: one forward over the flat batch, enqueued on a
// stream, and sampling behind it; routed experts there too or, in host memory, on the CPU, and so
// the first layers as a whole.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "engine/expert_streaming.h"
#include "engine/gpu_sampler.h"
#include "engine/hot_experts.h"
#include "engine/leading_layers.h"
#include "engine/load.h"
#include "engine/output_rows.h"
#include "models/model.h"
#include "ops/context.h"
#include "ops/gpu.h"
#include "platform/thread_pool.h"

namespace tandem::engine {

class GpuEngine : public LocalEngine {
 public:
  // Throws Error for a model that the GPU has no kernels for or that does not fit.
  GpuEngine(const gguf::File& file, const Options& options, std::unique_ptr<ops::Gpu> gpu,
            const Plan& plan);
  void load_weights(const std::function<void(int64_t bytes)>& on_bytes);
  // Fills hot experts, in so many bytes of the GPU, 0: none, and decides which prompts' experts are
  // streamed; after load_weights().
  void prepare_experts(const HotOptions& hot, int64_t hot_bytes);
  // Captures the graphs of steps that only generate; after load_weights().
  void capture_graphs();
  int64_t weight_file_bytes() const { return decoder_->weight_file_bytes(); }

  const EngineInfo& info() const override { return info_; }
  void begin(const Batch& batch) override;
  StepResult finish() override;
  bool running() override;
  bool broken() override { return gpu_->broken(); }
  void read_page(int32_t page, std::span<std::byte> out) override;
  void write_page(int32_t page, std::span<const std::byte> in) override;
  void copy_page(int32_t from, int32_t to) override;
  std::span<const float> logits(int32_t sequence) const override {
    return sampler_->read_logits(outputs_.row_of(sequence));
  }
  std::string_view architecture() const override { return decoder_->config().architecture; }
  int64_t last_step_weight_bytes() const override { return 0; }
  std::optional<StepSides> last_step_sides() const override { return sides_; }
  std::optional<HotStatistics> hot_statistics() const override {
    return hot_ ? std::optional(hot_->statistics()) : std::nullopt;
  }
  void profile_into(ops::Profile* profile) override;

 private:
  using Clock = std::chrono::steady_clock;

  ops::GpuSizes gpu_sizes(const Plan& plan, const Options& options) const;
  models::LayerRange gpu_layers() const;
  size_t host_workspace_bytes(const Options& options) const;
  void lay_out(const Batch& batch);
  // Enqueues the model over what begin_step() uploaded.
  void forward(const ops::GpuStepArrays& arrays, int64_t tokens, int64_t outputs);
  // The same for the step begun, operator by operator.
  void forward_batch();
  // Launches the step's graph, if it has one.
  void launch();
  // Whether the CPU computes a part of each step.
  bool host_works() const { return decoder_->weight_memory_bytes() > 0; }
  // The rows that a batch which only generates is filled up to, with graphs and without, so that
  // both compute the same bits; 0: any other batch.
  int padded_rows(const Batch& batch) const;

  std::unique_ptr<ops::Gpu> gpu_;  // outlives all that lies on it
  platform::ThreadPool pool_;
  std::unique_ptr<models::Decoder> decoder_;
  ExpertStreaming streaming_;
  ops::KvLayer form_;  // of a layer's cache on the GPU
  EngineInfo info_;
  std::unique_ptr<LeadingLayers> leading_;  // null: no layer is wholly on the CPU
  ops::Workspace workspace_;                // on the GPU
  ops::Workspace host_workspace_;           // for layers, and experts of others, in host memory
  std::vector<ops::KvLayer> cache_;         // [L]
  ops::Context context_;
  ops::Context host_context_;  // of leading layers
  std::unique_ptr<HotExperts> hot_;

  std::vector<ops::GpuStepLayout::Sequence> sequences_;  // [B]
  std::vector<int> graph_rows_;                          // ascending
  OutputRows outputs_;
  Batch batch_;                  // of the step begun
  ops::GpuStepArrays arrays_{};  // its arrays on the GPU
  int rows_ = 0;                 // that it is filled up to, as padded_rows() says
  bool replayed_ = false;        // by a graph; else operator by operator
  float* device_logits_;         // [B, V]
  std::unique_ptr<GpuSampler> sampler_;
  Clock::time_point begun_;         // the step
  std::optional<StepSides> sides_;  // of the last step
};

}  // namespace tandem::engine
