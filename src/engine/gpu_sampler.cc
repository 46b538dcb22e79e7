// Rows of the logits are numbered as OutputRows has them.
#include "engine/gpu_sampler.h"

#include <algorithm>

namespace tandem::engine {

GpuSampler::GpuSampler(const EngineInfo& info, ops::Gpu& gpu, int threads)
    : vocab_(info.vocab_size), gpu_(gpu), on_cpu_(info, threads) {
  const auto rows = static_cast<size_t>(info.max_step_sequences);
  gpu.prepare_sampling(info.max_step_sequences, vocab_);
  const size_t floats = rows * static_cast<size_t>(vocab_);
  host_logits_ = {reinterpret_cast<float*>(gpu.pinned(floats * sizeof(float)).data()), floats};
  params_.reserve(rows);
  taken_.reserve(rows);
  cpu_rows_.reserve(rows);
}

std::span<float> GpuSampler::host_row(int32_t row) const {
  const auto vocab = static_cast<size_t>(vocab_);
  return host_logits_.subspan(static_cast<size_t>(row) * vocab, vocab);
}

void GpuSampler::read(int32_t row) {
  const std::span<float> to = host_row(row);
  gpu_.read(logits_ + int64_t{row} * vocab_, to.size_bytes(),
            reinterpret_cast<std::byte*>(to.data()));
}

void GpuSampler::stage(const Batch& batch, const OutputRows& outputs) {
  params_.clear();
  any_ = false;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    if (outputs.of_slices()[i] < 0) continue;
    const SequenceSlice& slice = batch.sequences[i];
    any_ |= slice.sampling != nullptr;
    // A row that nobody samples is drawn from greedily, which costs least.
    params_.push_back(slice.sampling != nullptr ? sample_params(slice)
                                                : ops::SampleParams{.temperature = 0.0F});
  }
  taken_.assign(params_.size(), 0);
  if (any_) gpu_.stage_sampling(params_, taken_);
  cpu_rows_.clear();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const int32_t row = outputs.of_slices()[i];
    const bool on_cpu =
        row >= 0 && batch.sequences[i].sampling != nullptr && taken_[static_cast<size_t>(row)] == 0;
    cpu_rows_.push_back(on_cpu ? row : -1);
  }
}

void GpuSampler::enqueue(const float* logits) {
  logits_ = logits;
  if (any_) gpu_.sample(logits);
  for (const int32_t row : cpu_rows_) {
    if (row >= 0) read(row);
  }
}

StepResult GpuSampler::finish(platform::ThreadPool& pool, const Batch& batch,
                              const OutputRows& outputs) {
  const bool any =
      std::any_of(cpu_rows_.begin(), cpu_rows_.end(), [](int32_t r) { return r >= 0; });
  const StepResult result =
      any ? on_cpu_.sample(pool, batch, host_logits_, cpu_rows_) : on_cpu_.nothing(batch);
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const int32_t row = outputs.of_slices()[i];
    if (row < 0 || batch.sequences[i].sampling == nullptr || cpu_rows_[i] >= 0) continue;
    on_cpu_.put(i, gpu_.sampled(row));
  }
  return result;
}

std::span<const float> GpuSampler::read_logits(int32_t row) {
  read(row);
  gpu_.wait();
  return host_row(row);
}

}  // namespace tandem::engine
