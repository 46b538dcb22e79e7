// From logits to a token: bias, penalties, temperature, top-k, top-p, min-p, one draw. float32
// and whole numbers only, fixed order of operations, ties to the lower token: equal seed, position
// and logits give the equal token on every machine and device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample_types.h"

namespace tandem::ops {

// Neutral values switch a stage off.
struct SampleParams {
  float temperature = 1.0F;  // 0: greedy
  int32_t top_k = 0;
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;  // over all of history
  float frequency_penalty = 0.0F;   // over its output part
  float presence_penalty = 0.0F;    // over its output part
  uint64_t seed = 0;
  int32_t position = 0;       // of the token to sample; with the seed it determines the draw
  int32_t top_logprobs = -1;  // -1: no log probabilities; else how many best to report, at most 20
  std::span<const LogitBias> logit_bias = {};
  std::span<const int32_t> banned = {};
  std::span<const int32_t> history = {};  // prompt, then output
  int32_t prompt_tokens = 0;
};

// Buffers of one sampler, sized once for a vocabulary.
class SampleScratch {
 public:
  explicit SampleScratch(int32_t vocab);

  struct Candidate {
    int32_t token;
    float logit;
  };
  std::vector<float> logits;          // [V] after bias, then after penalties
  std::vector<uint16_t> counts;       // [V] occurrences in the output; all 0 between calls
  std::vector<Candidate> candidates;  // [V]
  std::vector<uint64_t> weights;      // [V]
  std::vector<TokenLogprob> top;
};

struct SampleResult {
  int32_t token;
  float logprob = 0.0F;                    // of the distribution after bias and bans
  std::span<const TokenLogprob> top = {};  // best first; valid until the scratch is used again
};

// logits: [V] f32, not changed. Any values are survived: a NaN counts as -infinity.
SampleResult sample(const float* logits, int32_t vocab, const SampleParams& params,
                    SampleScratch& scratch);

}  // namespace tandem::ops
