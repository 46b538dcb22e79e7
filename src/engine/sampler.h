// Samples a step's slices from their logits on the CPU, one thread a slice.
#pragma once

#include <span>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "ops/sample.h"
#include "platform/thread_pool.h"

namespace tandem::engine {

// A slice's wishes; its `sampling` must be there.
ops::SampleParams sample_params(const SequenceSlice& slice);

class Sampler {
 public:
  Sampler(const EngineInfo& info, int threads);

  // logits: [rows, V]; output_of: [B] the row of each slice, -1: it does not sample. The result is
  // valid until the next call.
  StepResult sample(platform::ThreadPool& pool, const Batch& batch, std::span<const float> logits,
                    std::span<const int32_t> output_of);
  // The same without a slice sampled.
  StepResult nothing(const Batch& batch);
  // A slice's token that was sampled elsewhere, into the last result.
  void put(size_t slice, const ops::SampleResult& result);

 private:
  int32_t vocab_;
  std::vector<SampledToken> tokens_;         // [B]
  std::vector<TokenLogprob> top_;            // [B, kMaxTopLogprobs]
  std::vector<ops::SampleScratch> scratch_;  // one for each thread
};

}  // namespace tandem::engine
