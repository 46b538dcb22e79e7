// Times the engine on prompts and on streams that decode together.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "engine/load.h"
#include "ops/profile.h"

namespace tandem::cli::bench {

// Either a prompt of n_prompt tokens, or n_gen tokens for each of the streams.
struct Test {
  int streams = 1;
  int n_prompt = 0;
  int n_gen = 0;
  int n_depth = 0;  // tokens that each stream has in the cache before it begins

  double tokens() const { return static_cast<double>(streams) * (n_prompt + n_gen); }
};

// One more run after the timed ones, with its operators timed too.
struct ProfiledRun {
  ops::Profile profile;
  double seconds = 0.0;
};

struct Measurement {
  Test test;
  std::vector<double> seconds;  // one for each repetition
  int steps = 0;                // of a repetition
  double bytes_per_step = 0.0;  // of distinct weights, mean over the steps
  std::optional<ProfiledRun> profiled;
  // Of the mean step of the last repetition, where steps were graphs.
  std::optional<engine::StepSides> sides;
  // Of the timed repetitions; none: no experts in host memory have copies on the GPU.
  std::optional<engine::HotStatistics> hot;

  std::vector<double> rates() const;  // tokens per second of each repetition
};

double mean(const std::vector<double>& values);
double median(std::vector<double> values);
double deviation(const std::vector<double>& values);  // of a sample; 0 for a single value

class Runner {
 public:
  struct Options {
    int repetitions = 3;
    bool profile = false;  // one more run of each test, with its operators timed
    bool sample = false;   // choose a token, greedily, from each row of logits
  };
  // The engine's cache holds the longest prompt, and as many streams as the tests have.
  Runner(engine::LocalEngine& engine, const Options& options);

  // Runs once to warm up, then the repetitions. Every run does the same work on the same tokens.
  Measurement prompt(int tokens);
  // Each stream first gets `depth` tokens, untimed.
  Measurement generation(int streams, int tokens, int depth);

 private:
  struct RunResult {
    int steps = 0;
    double bytes = 0.0;
    std::optional<engine::StepSides> sides;  // of all steps together
  };
  template <typename Body>
  Measurement measure(const Test& test, const Body& body);

  // Tokens [position, position + count) of a stream, in steps of a chunk.
  RunResult process_prompt(int first_page, int pages, int count);
  RunResult generate(const Test& test, int pages_per_stream);
  engine::SequenceSlice slice_of(int tokens, int position, std::span<const int32_t> pages,
                                 bool logits) const;
  int32_t random_token();
  int pages_for(int tokens) const;

  engine::LocalEngine& engine_;
  const Options options_;
  const engine::SamplingParams greedy_ = {.temperature = 0.0F, .logit_bias = {}};
  std::mt19937 generator_;
  std::vector<int32_t> pages_;  // of the whole cache
  std::vector<int32_t> ids_;    // of a step
  std::vector<engine::SequenceSlice> slices_;
};

}  // namespace tandem::cli::bench
