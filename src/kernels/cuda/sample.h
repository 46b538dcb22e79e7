// From logits to tokens, each row on its own: the stages and rules of ops/sample.h with the same
// random numbers and the same whole-number weights, so equal logits give the CPU's token. Log
// probabilities differ from the CPU's by the rounding of one sum.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

inline constexpr int kSampleTop = 20;  // log probabilities that a row reports at most

struct TokenBias {
  int32_t token;
  float bias;  // added to the logit
};
struct TokenCount {
  int32_t token;
  int32_t in_output;  // occurrences in the output, at most 32767; 0: in the prompt only
};

// One row's settings, as ops::SampleParams; neutral values switch a stage off. Ranges lie in the
// arrays of SampleParams; a row names no token twice in a range, and tokens outside of the
// vocabulary are passed over.
struct SampleRow {
  uint64_t seed = 0;
  int32_t position = 0;
  float temperature = 0.0F;  // 0: greedy
  int32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;
  float frequency_penalty = 0.0F;
  float presence_penalty = 0.0F;
  int32_t top_logprobs = -1;
  int32_t bias_begin = 0, bias_end = 0;
  int32_t banned_begin = 0, banned_end = 0;
  int32_t history_begin = 0, history_end = 0;

  bool operator==(const SampleRow&) const = default;
};

struct SampledRow {
  int32_t token;
  float logprob;  // where top_logprobs >= 0: of the distribution after bias and bans
  int32_t top_tokens[kSampleTop];  // the best top_logprobs tokens, best first
  float top_logprobs[kSampleTop];
};

// What the kernels of one call hand on; zeros before the first call, and again after each.
inline constexpr int kSampleBins = 2048;
struct SampleState {
  uint64_t best;
  uint32_t blocks;  // that have added theirs to it
  uint64_t weights[kSampleBins];
  uint32_t counts[kSampleBins];
};

struct SampleParams {
  const float* logits;  // [B, V], not changed
  int64_t logits_stride;
  const SampleRow* rows;      // [B]
  const TokenBias* biases;    // of all rows
  const int32_t* banned;      // of all rows
  const TokenCount* history;  // of all rows
  float* work;                // [B, V rounded up to 4] scratch, aligned to 16 bytes
  SampleState* states;        // [B] scratch
  SampledRow* out;            // [B]
  int vocab;                  // V, at most 2^22
  int count;                  // B
  // All rows are greedy and take their logits as they are, without log probabilities.
  bool only_best = false;
};
void sample(const SampleParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
