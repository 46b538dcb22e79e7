// The five mixes.
#include "cli/loadtest/plan.h"

#include <algorithm>
#include <iterator>
#include <random>

#include "base/error.h"

namespace tandem::cli::loadtest {
namespace {

constexpr int kBurst = 8;       // requests at once
constexpr int kLongEvery = 8;   // one in so many is long
constexpr int kLongTimes = 8;   // and so many times as long
constexpr int kAbortEvery = 3;  // one client in so many hangs up
constexpr int kPrefixes = 4;    // that prompts share

struct MixName {
  const char* name;
  Mix mix;
};
constexpr MixName kMixes[] = {{"constant", Mix::kConstant},
                              {"burst", Mix::kBurst},
                              {"long", Mix::kLong},
                              {"aborts", Mix::kAborts},
                              {"shared", Mix::kShared}};

// Ids of ordinary tokens: special ones lie at the ends of vocabularies.
std::vector<int32_t> random_tokens(std::mt19937_64& generator, int count, int vocab_size) {
  std::uniform_int_distribution<int32_t> id(vocab_size / 4, vocab_size * 3 / 4);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = id(generator);
  return tokens;
}

double start_of(const PlanOptions& options, int index) {
  if (options.rate <= 0.0) return 0.0;
  const int slot = options.mix == Mix::kBurst ? index / kBurst * kBurst : index;
  return slot / options.rate;
}

}  // namespace

Mix parse_mix(const std::string& name) {
  for (const MixName& mix : kMixes) {
    if (name == mix.name) return mix.mix;
  }
  throw Error("--mix {}: known are {}", name, mix_names());
}

std::string mix_names() {
  std::string names;
  for (const MixName& mix : kMixes) names += (names.empty() ? "" : ", ") + std::string(mix.name);
  return names;
}

std::vector<PlannedRequest> make_plan(const PlanOptions& options) {
  std::mt19937_64 generator(options.seed);
  const int shared = options.mix == Mix::kShared ? options.prompt_tokens * 3 / 4 : 0;
  std::vector<std::vector<int32_t>> prefixes;
  for (int i = 0; i < kPrefixes; ++i) {
    prefixes.push_back(random_tokens(generator, shared, options.vocab_size));
  }
  std::vector<PlannedRequest> plan;
  for (int i = 0; i < options.requests; ++i) {
    const bool is_long = options.mix == Mix::kLong && i % kLongEvery == kLongEvery - 1;
    const int length = options.prompt_tokens * (is_long ? kLongTimes : 1);
    PlannedRequest request{.start_seconds = start_of(options, i),
                           .prompt = prefixes[generator() % kPrefixes],
                           .output_tokens = options.output_tokens};
    const auto rest = random_tokens(generator, std::max(length - shared, 1), options.vocab_size);
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    if (options.mix == Mix::kAborts && i % kAbortEvery == kAbortEvery - 1) {
      request.hang_up_after =
          1 + static_cast<int>(generator() % static_cast<uint64_t>(options.output_tokens));
    }
    plan.push_back(std::move(request));
  }
  return plan;
}

}  // namespace tandem::cli::loadtest
