// What `tandem loadtest` sends and when: a list fixed by its options and seed, whatever the server
// does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::cli::loadtest {

enum class Mix {
  kConstant,  // one request after the other at equal distances
  kBurst,     // eight at once, then a pause
  kLong,      // every eighth has a prompt of eight times the length
  kAborts,    // every third client hangs up in the middle of its answer
  kShared,    // three quarters of each prompt are one of four prefixes
};
Mix parse_mix(const std::string& name);  // throws Error that lists the names
std::string mix_names();

struct PlanOptions {
  Mix mix = Mix::kConstant;
  int requests = 100;
  double rate = 0.0;  // requests a second; 0: as fast as `concurrency` allows
  int prompt_tokens = 128;
  int output_tokens = 32;
  uint64_t seed = 1;
  int vocab_size = 32000;
};

struct PlannedRequest {
  double start_seconds = 0.0;  // since the beginning
  std::vector<int32_t> prompt;
  int output_tokens = 0;
  int hang_up_after = 0;  // events of the stream; 0: never
};

std::vector<PlannedRequest> make_plan(const PlanOptions& options);

}  // namespace tandem::cli::loadtest
