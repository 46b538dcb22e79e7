// Samples a step's slices on the GPU, so that tokens are read back instead of logits. Slices whose
// settings the GPU's kernels do not take have their rows read and are sampled on the CPU.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/output_rows.h"
#include "engine/sampler.h"
#include "ops/gpu.h"

namespace tandem::engine {

class GpuSampler {
 public:
  // Throws Error where its memory does not fit.
  GpuSampler(const EngineInfo& info, ops::Gpu& gpu, int threads);

  // Ahead of the step: what its slices ask for.
  void stage(const Batch& batch, const OutputRows& outputs);
  // Behind its logits on the device, [B, V].
  void enqueue(const float* logits);
  // After gpu.wait(). The result is valid until the next stage().
  StepResult finish(platform::ThreadPool& pool, const Batch& batch, const OutputRows& outputs);

  // A row of logits of the step that finished. [V]
  std::span<const float> read_logits(int32_t row);

 private:
  std::span<float> host_row(int32_t row) const;
  void read(int32_t row);

  int32_t vocab_;
  ops::Gpu& gpu_;
  Sampler on_cpu_;
  const float* logits_ = nullptr;          // [B, V] of the last step, on the device
  std::span<float> host_logits_;           // [B, V] page-locked; rows that were read
  bool any_ = false;                       // of the step's slices samples
  std::vector<ops::SampleParams> params_;  // [B]
  std::vector<uint8_t> taken_;             // [B] whether the GPU samples the row
  std::vector<int32_t> cpu_rows_;          // [B] row of each slice that the CPU samples, else -1
};

}  // namespace tandem::engine
