// What the scheduler hands to Engine::begin and gets back: a flat batch of tokens of several
// sequences, any mix of prefill chunks and decodes. Plain views and values; the caller owns all
// memory for the length of the step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample_types.h"

namespace tandem::engine {

using TokenId = int32_t;
using ops::LogitBias;
using ops::TokenLogprob;

// Sampling of one sequence. Neutral values switch a stage off. Order: logit bias and bans,
// penalties, temperature, top-k, top-p, min-p. Equal seed, position and logits give the equal token
// on every machine.
struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;  // over prompt and output
  float frequency_penalty = 0.0F;   // over output
  float presence_penalty = 0.0F;    // over output
  uint64_t seed = 0;
  int32_t top_logprobs = -1;  // -1: no logprobs at all; 0: of the chosen token only; up to 20
  using Bias = LogitBias;
  std::vector<Bias> logit_bias;
};

// One sequence's share of a step.
struct SequenceSlice {
  int32_t num_tokens;  // tokens of this step: > 0, contiguous in Batch::tokens
  int32_t position;    // position of the first of them; earlier ones are in the KV pages
  std::span<const int32_t> pages;  // pages for positions 0 .. position + num_tokens - 1
  bool sample;                     // sample a token after the last one (false inside a prompt)
  const SamplingParams* sampling;  // when sample
  std::span<const TokenId>
      history;            // when sample: prompt and output so far, this step's tokens included
  int32_t prompt_tokens;  // how many of history are prompt
  std::span<const TokenId>
      banned;  // when sample: tokens with probability 0 in this step (e.g. min_tokens)
};

struct Batch {
  std::span<const TokenId> tokens;           // [T]
  std::span<const SequenceSlice> sequences;  // [B], in the order of their tokens
};

struct SampledToken {
  TokenId token = -1;                 // -1: this slice did not sample
  float logprob = 0.0F;               // of the distribution after bias, before temperature
  std::span<const TokenLogprob> top;  // [top_logprobs], best first; valid until the next step
};

struct StepResult {
  std::span<const SampledToken> tokens;  // [B]; valid until the next step
};

}  // namespace tandem::engine
