// The way from a slice's wishes to ops::sample.
#include "engine/sampler.h"

#include <algorithm>

namespace tandem::engine {
namespace {

constexpr size_t kMaxTopLogprobs = 20;  // OpenAI's limit

}  // namespace

ops::SampleParams sample_params(const SequenceSlice& slice) {
  const SamplingParams& p = *slice.sampling;
  return {.temperature = p.temperature,
          .top_k = p.top_k,
          .top_p = p.top_p,
          .min_p = p.min_p,
          .repetition_penalty = p.repetition_penalty,
          .frequency_penalty = p.frequency_penalty,
          .presence_penalty = p.presence_penalty,
          .seed = p.seed,
          .position = slice.position + slice.num_tokens,
          .top_logprobs = p.top_logprobs,
          .logit_bias = p.logit_bias,
          .banned = slice.banned,
          .history = slice.history,
          .prompt_tokens = slice.prompt_tokens};
}

Sampler::Sampler(const EngineInfo& info, int threads)
    : vocab_(info.vocab_size),
      tokens_(static_cast<size_t>(info.max_step_sequences)),
      top_(static_cast<size_t>(info.max_step_sequences) * kMaxTopLogprobs) {
  for (int i = 0; i < threads; ++i) scratch_.emplace_back(vocab_);
}

StepResult Sampler::sample(platform::ThreadPool& pool, const Batch& batch,
                           std::span<const float> logits, std::span<const int32_t> output_of) {
  const auto count = static_cast<int64_t>(batch.sequences.size());
  pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<size_t>(i);
      const SequenceSlice& slice = batch.sequences[index];
      SampledToken& sampled = tokens_[index];
      sampled = {};
      if (output_of[index] < 0 || slice.sampling == nullptr) continue;
      const float* row = logits.data() + int64_t{output_of[index]} * vocab_;
      put(index,
          ops::sample(row, vocab_, sample_params(slice), scratch_[static_cast<size_t>(worker)]));
    }
  });
  return {.tokens = std::span(tokens_).first(batch.sequences.size())};
}

StepResult Sampler::nothing(const Batch& batch) {
  const auto tokens = std::span(tokens_).first(batch.sequences.size());
  std::fill(tokens.begin(), tokens.end(), SampledToken{});
  return {.tokens = tokens};
}

void Sampler::put(size_t slice, const ops::SampleResult& result) {
  TokenLogprob* top = top_.data() + slice * kMaxTopLogprobs;
  std::copy(result.top.begin(), result.top.end(), top);
  tokens_[slice] = {
      .token = result.token, .logprob = result.logprob, .top = {top, result.top.size()}};
}

}  // namespace tandem::engine
