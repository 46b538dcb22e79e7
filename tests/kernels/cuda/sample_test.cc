// Sampling on the device against the CPU's: the same token for the same logits, seed and position.
#include "kernels/cuda/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "ops/sample.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using testing::DeviceVector;
using testing::random_floats;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class DeviceSampling : public testing::DeviceTest {
 protected:
  struct Outcome {
    std::vector<ops::SampleResult> cpu;
    std::vector<std::vector<ops::TokenLogprob>> cpu_top;
    std::vector<SampledRow> device;

    int different_tokens() const {
      int count = 0;
      for (size_t i = 0; i < cpu.size(); ++i) count += cpu[i].token != device[i].token;
      return count;
    }
  };

  // A row of logits for each setting.
  Outcome run(const std::vector<float>& logits, int vocab,
              const std::vector<ops::SampleParams>& settings) {
    Outcome outcome;
    ops::SampleScratch scratch(vocab);
    std::vector<SampleRow> rows;
    std::vector<TokenBias> biases;
    std::vector<int32_t> banned;
    std::vector<TokenCount> history;
    for (size_t i = 0; i < settings.size(); ++i) {
      const ops::SampleParams& s = settings[i];
      outcome.cpu.push_back(
          ops::sample(logits.data() + i * static_cast<size_t>(vocab), vocab, s, scratch));
      outcome.cpu_top.emplace_back(outcome.cpu.back().top.begin(), outcome.cpu.back().top.end());
      SampleRow row = {.seed = s.seed,
                       .position = s.position,
                       .temperature = s.temperature,
                       .top_k = s.top_k,
                       .top_p = s.top_p,
                       .min_p = s.min_p,
                       .repetition_penalty = s.repetition_penalty,
                       .frequency_penalty = s.frequency_penalty,
                       .presence_penalty = s.presence_penalty,
                       .top_logprobs = s.top_logprobs};
      row.bias_begin = static_cast<int32_t>(biases.size());
      for (const ops::LogitBias& b : s.logit_bias) biases.push_back({b.token, b.bias});
      row.bias_end = static_cast<int32_t>(biases.size());
      row.banned_begin = static_cast<int32_t>(banned.size());
      banned.insert(banned.end(), s.banned.begin(), s.banned.end());
      row.banned_end = static_cast<int32_t>(banned.size());
      row.history_begin = static_cast<int32_t>(history.size());
      std::map<int32_t, int32_t> counts;
      for (size_t at = 0; at < s.history.size(); ++at) {
        counts[s.history[at]] += static_cast<int32_t>(at) >= s.prompt_tokens;
      }
      for (const auto& [token, count] : counts) history.push_back({token, count});
      row.history_end = static_cast<int32_t>(history.size());
      rows.push_back(row);
    }
    DeviceVector<float> device_logits(logits), work(logits.size() + 3 * settings.size());
    DeviceVector<SampleRow> device_rows(rows);
    DeviceVector<TokenBias> device_biases(biases);
    DeviceVector<int32_t> device_banned(banned);
    DeviceVector<TokenCount> device_history(history);
    DeviceVector<SampledRow> out(rows.size());
    DeviceVector<SampleState> states(rows.size());
    sample({.logits = device_logits.data(),
            .logits_stride = vocab,
            .rows = device_rows.data(),
            .biases = device_biases.data(),
            .banned = device_banned.data(),
            .history = device_history.data(),
            .work = work.data(),
            .states = states.data(),
            .out = out.data(),
            .vocab = vocab,
            .count = static_cast<int>(rows.size()),
            .only_best = only_best(settings)},
           stream());
    outcome.device = out.host();
    return outcome;
  }

  // What the engine's rows tell of theirs.
  static bool only_best(const std::vector<ops::SampleParams>& settings) {
    return std::all_of(settings.begin(), settings.end(), [](const ops::SampleParams& s) {
      return s.temperature == 0.0F && s.logit_bias.empty() && s.banned.empty() &&
             s.repetition_penalty == 1.0F && s.frequency_penalty == 0.0F &&
             s.presence_penalty == 0.0F && s.top_logprobs < 0;
    });
  }

  // `count` draws with seeds and positions of their own.
  static std::vector<ops::SampleParams> draws(ops::SampleParams setting, int count) {
    std::vector<ops::SampleParams> settings;
    for (int i = 0; i < count; ++i) {
      setting.seed = 0x9e3779b97f4a7c15U * static_cast<uint64_t>(i + 1);
      setting.position = i * 37;
      settings.push_back(setting);
    }
    return settings;
  }
};

TEST_F(DeviceSampling, DrawsTheCpusToken) {
  const std::vector<ops::SampleParams> kinds = {
      {.temperature = 0.0F},
      {.temperature = 1.0F, .top_k = 1},
      {.temperature = 0.7F, .top_k = 50},
      {.temperature = 1.5F, .top_k = 2000, .top_p = 0.9F},
      {.temperature = 2.0F, .top_k = 40, .top_p = 0.8F, .min_p = 0.02F},
      {.temperature = 1.0F, .min_p = 0.05F},
      {.temperature = 1e-3F},
      {.temperature = 0.6F, .top_k = 20, .top_p = 0.95F},
      {.temperature = 1.0F},
      {.temperature = 0.8F, .top_p = 0.95F},
      {.temperature = 3.0F, .top_p = 0.9F},
      {.temperature = 2.0F, .top_k = 5000, .top_p = 0.99F},
      {.temperature = 40.0F, .min_p = 0.5F},  // all candidates lie in few bins
      {.temperature = 100.0F, .top_k = 20000, .top_p = 0.7F},
  };
  for (const int vocab : {7, 1000, 32000, 151937}) {
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      const auto settings = draws(kinds[kind], 24);
      const auto logits =
          random_floats(settings.size() * static_cast<size_t>(vocab), 3 + vocab, 3.0F);
      EXPECT_EQ(run(logits, vocab, settings).different_tokens(), 0) << vocab << " kind " << kind;
    }
  }
}

// Equal logits go by their token.
TEST_F(DeviceSampling, BreaksTiesByTheLowerToken) {
  const int vocab = 50000;
  for (const ops::SampleParams& kind :
       std::vector<ops::SampleParams>{{.temperature = 0.0F},
                                      {.temperature = 1.0F},
                                      {.temperature = 1.0F, .top_k = 7},
                                      {.temperature = 1.0F, .top_k = 3000},
                                      {.temperature = 1.0F, .top_p = 0.25F},
                                      {.temperature = 1.0F, .top_k = 3000, .top_p = 0.5F}}) {
    const auto settings = draws(kind, 16);
    std::vector<float> logits(settings.size() * vocab, 1.0F);
    for (size_t i = 0; i < logits.size(); i += 3) logits[i] = -2.0F;
    EXPECT_EQ(run(logits, vocab, settings).different_tokens(), 0)
        << kind.top_k << " " << kind.top_p;
  }
}

TEST_F(DeviceSampling, AppliesBiasBansAndPenalties) {
  const int vocab = 5000, rows = 24;
  auto logits = random_floats(size_t{rows} * vocab, 5, 2.0F);
  const std::vector<ops::LogitBias> bias = {{17, 4.0F}, {4999, -kInfinity}, {3, 6.5F}, {-1, 9.0F}};
  const std::vector<int32_t> banned = {3, 100, 5000};
  std::vector<int32_t> history;
  for (int i = 0; i < 700; ++i) history.push_back(i * i % 600);
  for (const ops::SampleParams& kind :
       std::vector<ops::SampleParams>{{.temperature = 0.0F, .logit_bias = bias},
                                      {.temperature = 0.0F,
                                      .repetition_penalty = 1.3F,
                                      .frequency_penalty = 0.4F,
                                      .presence_penalty = 0.2F,
                                      .top_logprobs = 5,
                                      .banned = banned,
                                      .history = history,
                                      .prompt_tokens = 300},
                                      {.temperature = 0.9F,
                                      .top_k = 100,
                                      .repetition_penalty = 0.8F,
                                      .frequency_penalty = -0.3F,
                                      .top_logprobs = 20,
                                      .logit_bias = bias,
                                      .banned = banned,
                                      .history = history,
                                      .prompt_tokens = 100}}) {
    const Outcome outcome = run(logits, vocab, draws(kind, rows));
    EXPECT_EQ(outcome.different_tokens(), 0);
    if (kind.top_logprobs < 0) continue;
    for (size_t i = 0; i < rows; ++i) {
      const SampledRow& row = outcome.device[i];
      // The CPU sums 5000 floats in parts of 256: an error of some 1e-6 in the logarithm.
      EXPECT_NEAR(row.logprob, outcome.cpu[i].logprob, 5e-6F);
      for (size_t t = 0; t < outcome.cpu_top[i].size(); ++t) {
        EXPECT_EQ(row.top_tokens[t], outcome.cpu_top[i][t].token);
        EXPECT_NEAR(row.top_logprobs[t], outcome.cpu_top[i][t].logprob, 5e-6F);
      }
    }
  }
}

TEST_F(DeviceSampling, SurvivesAnyLogits) {
  const int vocab = 4097;
  const float nan = std::nanf("");
  std::vector<std::vector<float>> rows(6, random_floats(vocab, 9));
  rows[0].assign(vocab, -kInfinity);
  rows[1].assign(vocab, nan);
  rows[2][4000] = kInfinity;
  for (size_t i = 0; i < rows[3].size(); i += 2) rows[3][i] = nan;
  rows[4].assign(vocab, 0.0F);
  rows[5][7] = 3e38F, rows[5][8] = -3e38F;
  std::vector<float> logits;
  for (const auto& row : rows) logits.insert(logits.end(), row.begin(), row.end());
  for (const ops::SampleParams& kind : std::vector<ops::SampleParams>{
           {.temperature = 0.0F}, {.temperature = 1.0F, .top_k = 5}, {.temperature = 0.5F}}) {
    EXPECT_EQ(run(logits, vocab, draws(kind, 6)).different_tokens(), 0) << kind.temperature;
  }
}

// A graph holds addresses: settings written there change what a replay does.
TEST_F(DeviceSampling, ReplaysWithOtherSettings) {
  const int vocab = 3000;
  const auto logits = random_floats(vocab, 1, 2.0F);
  DeviceVector<float> device_logits(logits), work(logits.size());
  DeviceVector<SampleRow> row(std::vector<SampleRow>{{.temperature = 0.0F}});
  DeviceVector<SampledRow> out(1);
  DeviceVector<SampleState> states(1);
  const auto graph = platform::cuda::Graph::capture(stream_owner(), [&](cudaStream_t on) {
    sample({.logits = device_logits.data(),
            .logits_stride = vocab,
            .rows = row.data(),
            .biases = nullptr,
            .banned = nullptr,
            .history = nullptr,
            .work = work.data(),
            .states = states.data(),
            .out = out.data(),
            .vocab = vocab,
            .count = 1},
           on);
  });
  ops::SampleScratch scratch(vocab);
  for (int position = 0; position < 8; ++position) {
    const ops::SampleParams setting = {.temperature = 1.0F, .top_k = 30, .position = position};
    row.assign({{.position = position, .temperature = 1.0F, .top_k = 30}});
    graph.launch(stream());
    EXPECT_EQ(out.host()[0].token, ops::sample(logits.data(), vocab, setting, scratch).token);
  }
}

// One kernel, whose blocks leave zeros to the next call: of more rows and other logits here, on the
// same states.
TEST_F(DeviceSampling, GreedyRowsAloneAgainAndAgain) {
  const int vocab = 50000, most = 5;
  DeviceVector<SampleRow> rows{std::vector<SampleRow>(most)};
  DeviceVector<SampledRow> out(most);
  DeviceVector<SampleState> states(most);
  for (int call = 0; call < 12; ++call) {
    const int count = 1 + call % most;
    const auto logits = random_floats(static_cast<size_t>(count) * vocab, 70 + call, 2.0F);
    DeviceVector<float> device_logits(logits);
    sample({.logits = device_logits.data(),
            .logits_stride = vocab,
            .rows = rows.data(),
            .biases = nullptr,
            .banned = nullptr,
            .history = nullptr,
            .work = nullptr,
            .states = states.data(),
            .out = out.data(),
            .vocab = vocab,
            .count = count,
            .only_best = true},
           stream());
    const std::vector<SampledRow> sampled = out.host();
    for (int row = 0; row < count; ++row) {
      const auto begin = logits.begin() + int64_t{row} * vocab;
      EXPECT_EQ(sampled[static_cast<size_t>(row)].token,
                std::max_element(begin, begin + vocab) - begin)
          << call << " " << row;
    }
  }
}

TEST_F(DeviceSampling, DISABLED_Speed) {
  using platform::cuda::Event;
  const int vocab = 151936;
  for (const int count : {1, 32}) {
    const auto logits = random_floats(static_cast<size_t>(count) * vocab, 1, 3.0F);
    DeviceVector<float> device_logits(logits), work(logits.size());
    DeviceVector<SampledRow> out(static_cast<size_t>(count));
    DeviceVector<SampleState> states(static_cast<size_t>(count));
    const std::map<const char*, SampleRow> kinds = {
        {"greedy", {}},
        {"temperature 0.8", {.temperature = 0.8F}},
        {"top-p 0.95", {.temperature = 0.8F, .top_p = 0.95F}},
        {"top-k 50", {.temperature = 0.8F, .top_k = 50}},
        {"temperature 4", {.temperature = 4.0F}},
        {"greedy, 20 logprobs", {.top_logprobs = 20}},
    };
    for (const auto& [name, setting] : kinds) {
      DeviceVector<SampleRow> rows(std::vector<SampleRow>(static_cast<size_t>(count), setting));
      constexpr int kRepeats = 50;
      const auto graph = platform::cuda::Graph::capture(stream_owner(), [&](cudaStream_t on) {
        for (int i = 0; i < kRepeats; ++i) {
          sample({.logits = device_logits.data(),
                  .logits_stride = vocab,
                  .rows = rows.data(),
                  .biases = nullptr,
                  .banned = nullptr,
                  .history = nullptr,
                  .work = work.data(),
                  .states = states.data(),
                  .out = out.data(),
                  .vocab = vocab,
                  .count = count,
                  .only_best = setting.temperature == 0.0F && setting.top_logprobs < 0},
                 on);
        }
      });
      graph.launch(stream());
      const Event begin(Event::Timing::kOn), end(Event::Timing::kOn);
      begin.record(stream());
      graph.launch(stream());
      end.record(stream());
      end.synchronize();
      std::printf("%2d rows, %s: %.1f us\n", count, name, end.since(begin) * 1000.0 / kRepeats);
    }
  }
}

}  // namespace
}  // namespace tandem::cuda
