// Tokens are random, as in llama-bench: they go to experts more evenly than text does.
#include "cli/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace tandem::cli::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

std::vector<double> Measurement::rates() const {
  std::vector<double> rates;
  for (const double s : seconds) rates.push_back(test.tokens() / s);
  return rates;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2.0;
}

double deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0.0;
  const double center = mean(values);
  double sum = 0.0;
  for (const double v : values) sum += (v - center) * (v - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

Runner::Runner(engine::LocalEngine& engine, const Options& options)
    : engine_(engine), options_(options) {
  pages_.resize(static_cast<size_t>(engine.info().num_pages));
  std::iota(pages_.begin(), pages_.end(), 0);
}

engine::SequenceSlice Runner::slice_of(int tokens, int position, std::span<const int32_t> pages,
                                       bool logits) const {
  return {.num_tokens = tokens,
          .position = position,
          .pages = pages,
          .sample = logits,
          .sampling = logits && options_.sample ? &greedy_ : nullptr,
          .history = {},
          .prompt_tokens = 0,
          .banned = {}};
}

Measurement Runner::prompt(int tokens) {
  const int pages = pages_for(tokens);
  return measure({.n_prompt = tokens}, [&] { return process_prompt(0, pages, tokens); });
}

Measurement Runner::generation(int streams, int tokens, int depth) {
  const int pages = pages_for(depth + tokens);
  // What a run appends behind the depth is overwritten by the next, so the depth stays as it is.
  generator_.seed(0);
  for (int stream = 0; stream < streams; ++stream) process_prompt(stream * pages, pages, depth);
  const Test test{.streams = streams, .n_gen = tokens, .n_depth = depth};
  return measure(test, [&] { return generate(test, pages); });
}

template <typename Body>
Measurement Runner::measure(const Test& test, const Body& body) {
  Measurement m{.test = test, .seconds = {}, .profiled = {}, .sides = {}, .hot = {}};
  const auto run = [&] {
    generator_.seed(1);
    const Clock::time_point start = Clock::now();
    const RunResult result = body();
    const double seconds = seconds_since(start);
    m.steps = result.steps;
    m.bytes_per_step = result.bytes / result.steps;
    m.sides = result.sides;
    return seconds;
  };
  run();
  const std::optional<engine::HotStatistics> before = engine_.hot_statistics();
  for (int i = 0; i < options_.repetitions; ++i) m.seconds.push_back(run());
  if (m.sides) m.sides->scale(1.0 / m.steps);
  m.hot = engine_.hot_statistics();
  if (m.hot && before) {
    m.hot->pairs -= before->pairs;
    m.hot->hits -= before->hits;
    m.hot->switches -= before->switches;
  }
  if (options_.profile) {
    const std::optional<engine::StepSides> sides = m.sides;
    ProfiledRun& profiled = m.profiled.emplace();
    engine_.profile_into(&profiled.profile);
    profiled.seconds = run();
    engine_.profile_into(nullptr);
    m.sides = sides;
  }
  return m;
}

Runner::RunResult Runner::process_prompt(int first_page, int pages, int count) {
  RunResult result;
  const int chunk = engine_.info().max_step_tokens;
  const auto where =
      std::span(pages_).subspan(static_cast<size_t>(first_page), static_cast<size_t>(pages));
  for (int done = 0; done < count; done += chunk, ++result.steps) {
    const int tokens = std::min(chunk, count - done);
    ids_.resize(static_cast<size_t>(tokens));
    for (int32_t& id : ids_) id = random_token();
    const engine::SequenceSlice slice = slice_of(tokens, done, where, done + tokens == count);
    engine_.step({.tokens = ids_, .sequences = {&slice, 1}});
    result.bytes += static_cast<double>(engine_.last_step_weight_bytes());
  }
  return result;
}

Runner::RunResult Runner::generate(const Test& test, int pages_per_stream) {
  RunResult result{.steps = test.n_gen, .bytes = 0.0, .sides = {}};
  ids_.resize(static_cast<size_t>(test.streams));
  for (int i = 0; i < test.n_gen; ++i) {
    slices_.clear();
    for (int stream = 0; stream < test.streams; ++stream) {
      ids_[static_cast<size_t>(stream)] = random_token();
      const auto first = static_cast<size_t>(stream * pages_per_stream);
      const auto where = std::span(pages_).subspan(first, static_cast<size_t>(pages_per_stream));
      slices_.push_back(slice_of(1, test.n_depth + i, where, true));
    }
    engine_.step({.tokens = ids_, .sequences = slices_});
    result.bytes += static_cast<double>(engine_.last_step_weight_bytes());
    if (const auto sides = engine_.last_step_sides()) {
      if (!result.sides) result.sides.emplace();
      result.sides->add(*sides);
    }
  }
  return result;
}

int32_t Runner::random_token() {
  return static_cast<int32_t>(generator_() % static_cast<uint32_t>(engine_.info().vocab_size));
}

int Runner::pages_for(int tokens) const {
  const int size = engine_.info().page_size;
  return (tokens + size - 1) / size;
}

}  // namespace tandem::cli::bench
