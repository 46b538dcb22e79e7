// The engine on a GPU with small cuts of known models, random weights: graphs against the same
// steps without, sampling there against the CPU's, steadiness, and how a failure shows. Skipped
// where there is no GPU.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/load.h"
#include "gguf/synthetic.h"
#include "ops/sample.h"
#include "platform/gpu.h"

namespace tandem::engine {
namespace {

constexpr int kMostSequences = 64, kPageSize = 64;

Options gpu_options() {
  Options options;
  options.threads = 2;
  options.device = "cuda";
  options.cache_tokens = kPageSize * kMostSequences;
  options.page_size = kPageSize;
  options.max_step_tokens = 256;
  options.max_step_sequences = kMostSequences;
  // Both ways round differently, and which is quicker is not the same in every run.
  options.stream_experts = Options::kNever;
  return options;
}

class GpuEngineTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const platform::Gpus gpus = platform::find_gpus();
    if (gpus.list.empty()) GTEST_SKIP() << gpus.missing;
  }
};

// Sequences of one page each, which join with a prompt, generate, and leave.
class Traffic {
 public:
  struct Sequence {
    int32_t page;
    std::vector<TokenId> tokens;  // prompt, then output
    int32_t prompt, done;         // done: tokens whose keys are stored
    SamplingParams sampling;
  };

  explicit Traffic(const EngineInfo& info) : vocab_(info.vocab_size) {
    for (int32_t page = 0; page < kMostSequences; ++page) free_.push_back(page);
  }

  void join(int32_t prompt, const SamplingParams& sampling) {
    Sequence s = {free_.back(), {}, prompt, 0, sampling};
    free_.pop_back();
    for (int32_t i = 0; i < prompt; ++i) s.tokens.push_back(token());
    s.sampling.seed = bits_();
    live_.push_back(std::move(s));
  }
  void leave(size_t i) {
    free_.push_back(live_[i].page);
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  size_t live() const { return live_.size(); }
  const Sequence& at(size_t i) const { return live_[i]; }
  uint32_t random() { return bits_(); }
  TokenId token() { return static_cast<TokenId>(bits_() % static_cast<uint32_t>(vocab_)); }

  // The batch of all live sequences; valid until the next call.
  Batch batch() {
    flat_.clear();
    slices_.clear();
    for (const Sequence& s : live_) {
      const auto first = static_cast<size_t>(s.done);
      flat_.insert(flat_.end(), s.tokens.begin() + s.done, s.tokens.end());
      slices_.push_back({.num_tokens = static_cast<int32_t>(s.tokens.size() - first),
                         .position = s.done,
                         .pages = {&s.page, 1},
                         .sample = true,
                         .sampling = &s.sampling,
                         .history = s.tokens,
                         .prompt_tokens = s.prompt,
                         .banned = {}});
    }
    return {.tokens = flat_, .sequences = slices_};
  }
  void advance(const StepResult& result) {
    for (size_t i = 0; i < live_.size(); ++i) {
      live_[i].done = static_cast<int32_t>(live_[i].tokens.size());
      live_[i].tokens.push_back(result.tokens[i].token);
    }
  }

 private:
  int32_t vocab_;
  std::mt19937 bits_{1};
  std::vector<int32_t> free_;
  std::vector<Sequence> live_;
  std::vector<TokenId> flat_;
  std::vector<SequenceSlice> slices_;
};

double root_mean_square(std::span<const float> a, std::span<const float> b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = a[i] - (b.empty() ? 0.0F : b[i]);
    sum += difference * difference;
  }
  return std::sqrt(sum / static_cast<double>(a.size()));
}

// 1 to 64 sequences, one more each step and then one fewer, with somebody leaving and joining
// besides, and whoever has filled a page. Prompts are one token long, so that every step only
// generates.
void expect_replays_equal_plain_steps(const gguf::File& file, Options options) {
  const std::unique_ptr<LocalEngine> replays = load(file, options);
  options.use_cuda_graph = false;
  const std::unique_ptr<LocalEngine> plain = load(file, options);
  Traffic traffic(replays->info());
  int replayed = 0;
  for (int step = 0; step < 2 * kMostSequences - 1; ++step) {
    const int wanted = step < kMostSequences ? step + 1 : 2 * kMostSequences - 1 - step;
    for (size_t i = traffic.live(); i-- > 0;) {
      if (traffic.at(i).tokens.size() == kPageSize) traffic.leave(i);
    }
    if (traffic.live() > 1) traffic.leave(traffic.random() % traffic.live());
    while (traffic.live() > static_cast<size_t>(wanted)) traffic.leave(0);
    while (traffic.live() < static_cast<size_t>(wanted))
      traffic.join(1, {.temperature = 0.0F, .logit_bias = {}});
    const Batch batch = traffic.batch();
    const StepResult result = replays->step(batch);
    replayed += replays->last_step_sides() ? 1 : 0;
    const StepResult expected = plain->step(batch);
    for (size_t i = 0; i < traffic.live(); ++i) {
      const auto row = static_cast<int32_t>(i);
      const std::span<const float> a = replays->logits(row), b = plain->logits(row);
      ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size_bytes()), 0)
          << "sequence " << i << " of " << wanted << " in step " << step;
      ASSERT_EQ(result.tokens[i].token, expected.tokens[i].token);
    }
    traffic.advance(result);
  }
  EXPECT_GT(replayed, kMostSequences);
}

TEST_P(GpuEngineTest, ReplayEqualsTheSameStepWithoutGraphs) {
  expect_replays_equal_plain_steps(*gguf::open_synthetic(GetParam(), 2), gpu_options());
}

// The first layer is on the CPU; the second one's experts are on the GPU, and then there too.
TEST_P(GpuEngineTest, ReplayBehindLayersOnTheCpuEqualsTheSameStep) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 2);
  Options options = gpu_options();
  options.placement.gpu_layers = 2;
  expect_replays_equal_plain_steps(*file, options);
  options.placement.cpu_expert_layers = models::PlacementWishes::kAllLayers;
  options.hot.on = false;
  expect_replays_equal_plain_steps(*file, options);
}

// However many layers are on the CPU, logits are as far from all on the GPU as the CPU's are, and
// no further; and a page that another engine wrote, read and written back, holds all layers' keys.
TEST_P(GpuEngineTest, DividedLayersAndTheirPages) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 2);
  Options options = gpu_options();
  const std::unique_ptr<LocalEngine> gpu = load(*file, options);
  options.device = "cpu";
  const std::unique_ptr<LocalEngine> cpu = load(*file, options);
  options.device = "cuda";
  for (const int gpu_layers : {1, 2}) {
    SCOPED_TRACE(gpu_layers);
    options.placement.gpu_layers = gpu_layers;
    const std::unique_ptr<LocalEngine> divided = load(*file, options);
    const std::unique_ptr<LocalEngine> other = load(*file, options);
    std::vector<std::byte> page(static_cast<size_t>(divided->info().page_bytes));
    Traffic traffic(divided->info());
    double error = 0.0, cpu_error = 0.0;
    for (const int32_t prompt : {20, 1, 33}) {
      traffic.join(prompt, {.temperature = 0.0F, .logit_bias = {}});
    }
    for (int step = 0; step < 8; ++step) {
      const Batch batch = traffic.batch();
      const StepResult result = divided->step(batch);
      gpu->step(batch);
      cpu->step(batch);
      other->step(batch);
      for (size_t i = 0; i < traffic.live(); ++i) {
        const auto row = static_cast<int32_t>(i);
        const std::span<const float> ours = divided->logits(row);
        ASSERT_EQ(std::memcmp(ours.data(), other->logits(row).data(), ours.size_bytes()), 0)
            << step;
        error += root_mean_square(ours, gpu->logits(row));
        cpu_error += root_mean_square(cpu->logits(row), gpu->logits(row));
        // From now on the other engine goes on with what this one stored, by way of a third page.
        const int32_t at = traffic.at(i).page, free = kMostSequences - 1 - at;
        divided->read_page(at, page);
        other->write_page(at, std::vector<std::byte>(page.size()));
        other->write_page(free, page);
        other->copy_page(free, at);
      }
      traffic.advance(result);
    }
    std::printf("%d on the GPU: from all there %.3g, the CPU alone %.3g\n", gpu_layers, error,
                cpu_error);
    EXPECT_LT(error, 1.25 * cpu_error);
    EXPECT_GT(error, 0.0);
  }
}

// Every setting, prompts and generation mixed: tokens are those that the CPU draws from the same
// logits.
TEST_P(GpuEngineTest, SamplesTheCpusTokens) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 1);
  const std::unique_ptr<LocalEngine> engine = load(*file, gpu_options());
  const std::vector<SamplingParams> kinds = {
      {.temperature = 0.0F, .logit_bias = {}},
      {.temperature = 0.8F, .top_k = 40, .top_p = 0.95F, .logit_bias = {}},
      {.temperature = 1.2F, .min_p = 0.02F, .logit_bias = {}},
      {.temperature = 0.0F, .top_logprobs = 5, .logit_bias = {}},
      {.temperature = 0.7F,
       .repetition_penalty = 1.3F,
       .frequency_penalty = 0.2F,
       .logit_bias = {}},
      {.temperature = 1.0F, .top_logprobs = 20, .logit_bias = {{7, 4.0F}, {11, -3.0F}}},
      // Twice the same token: left to the CPU.
      {.temperature = 1.0F, .logit_bias = {{7, 4.0F}, {7, 4.0F}}},
  };
  Traffic traffic(engine->info());
  ops::SampleScratch scratch(engine->info().vocab_size);
  int drawn = 0;
  for (int step = 0; step < 24; ++step) {
    if (traffic.live() > 12) traffic.leave(traffic.random() % traffic.live());
    const SamplingParams& kind = kinds[static_cast<size_t>(step) % kinds.size()];
    traffic.join(1 + static_cast<int32_t>(traffic.random() % 9), kind);
    const StepResult result = engine->step(traffic.batch());
    for (size_t i = 0; i < traffic.live(); ++i) {
      const Traffic::Sequence& s = traffic.at(i);
      const std::span<const float> logits = engine->logits(static_cast<int32_t>(i));
      const ops::SampleResult expected =
          ops::sample(logits.data(), engine->info().vocab_size,
                      {.temperature = s.sampling.temperature,
                       .top_k = s.sampling.top_k,
                       .top_p = s.sampling.top_p,
                       .min_p = s.sampling.min_p,
                       .repetition_penalty = s.sampling.repetition_penalty,
                       .frequency_penalty = s.sampling.frequency_penalty,
                       .seed = s.sampling.seed,
                       .position = static_cast<int32_t>(s.tokens.size()),
                       .top_logprobs = s.sampling.top_logprobs,
                       .logit_bias = s.sampling.logit_bias,
                       .history = s.tokens,
                       .prompt_tokens = s.prompt},
                      scratch);
      const SampledToken& token = result.tokens[i];
      ASSERT_EQ(token.token, expected.token) << "step " << step << ", sequence " << i;
      EXPECT_NEAR(token.logprob, expected.logprob, 1e-5);
      ASSERT_EQ(token.top.size(), expected.top.size());
      for (size_t k = 0; k < token.top.size(); ++k) {
        EXPECT_EQ(token.top[k].token, expected.top[k].token);
        EXPECT_NEAR(token.top[k].logprob, expected.top[k].logprob, 1e-5);
      }
      ++drawn;
    }
    traffic.advance(result);
  }
  EXPECT_GT(drawn, 200);
}

int64_t resident_bytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * 4096;
}

// Neither side's memory grows, whatever the traffic: in the second half of 10 000 steps nothing
// more is taken. Kernels are loaded at their first launch, hence not from the start.
TEST_P(GpuEngineTest, TenThousandStepsTakeNoMemory) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 1);
  const std::unique_ptr<LocalEngine> engine = load(*file, gpu_options());
  Traffic traffic(engine->info());
  int64_t device = 0, host = 0;
  for (int step = 0; step < 10000; ++step) {
    for (size_t i = traffic.live(); i-- > 0;) {
      if (traffic.at(i).tokens.size() > 50 || traffic.random() % 64 == 0) traffic.leave(i);
    }
    while (traffic.live() < 1 + traffic.random() % 8) {
      const float temperature = traffic.random() % 2 == 0 ? 0.0F : 1.0F;
      traffic.join(1 + static_cast<int32_t>(traffic.random() % 9),
                   {.temperature = temperature, .logit_bias = {}});
    }
    traffic.advance(engine->step(traffic.batch()));
    if (step != 5000) continue;
    device = platform::find_gpus().list.front().free_bytes;
    host = resident_bytes();
  }
  EXPECT_GE(platform::find_gpus().list.front().free_bytes, device);
  EXPECT_LE(resident_bytes(), host + (int64_t{4} << 20));
}

// The same tokens through an engine with experts on the CPU and through one whose hot experts move
// at every step that has no copy under way, prompts and generation mixed. As far from each other as
// the CPU's kernels are from the GPU's, and no further: each expert is computed once.
TEST_P(GpuEngineTest, HotExpertsThatMoveAtEveryStepChangeNothing) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 3);
  Options options = gpu_options();
  options.hot.on = false;
  const std::unique_ptr<LocalEngine> all_on_gpu = load(*file, options);
  options.placement.cpu_expert_layers = models::PlacementWishes::kAllLayers;
  const std::unique_ptr<LocalEngine> cold = load(*file, options);
  EXPECT_FALSE(cold->hot_statistics());
  options.hot.on = true;
  options.hot.gpu_bytes = int64_t{200} << 20;  // of 0.7 to 1.2 GB
  options.hot.policy = {.ratio = 0.0, .margin = -1.0};
  const std::unique_ptr<LocalEngine> hot = load(*file, options);
  ASSERT_TRUE(hot->hot_statistics());

  Traffic traffic(cold->info());
  double hot_error = 0.0, gpu_error = 0.0, size = 0.0;
  int rows = 0;
  for (int step = 0; step < 100; ++step) {
    if (step % 5 == 0 || traffic.live() == 0) {
      const int prompt = step % 10 == 0 ? 20 : 1;
      traffic.join(prompt, {.temperature = 0.0F, .logit_bias = {}});
    }
    if (traffic.live() > 8 || traffic.at(0).tokens.size() > 50) traffic.leave(0);
    const Batch batch = traffic.batch();
    const StepResult result = cold->step(batch);
    hot->step(batch);
    all_on_gpu->step(batch);
    for (size_t i = 0; i < traffic.live(); ++i) {
      const auto row = static_cast<int32_t>(i);
      const std::span<const float> expected = cold->logits(row);
      const double scale = root_mean_square(expected, {});
      const double error = root_mean_square(expected, hot->logits(row));
      EXPECT_LT(error, 0.25 * scale) << "sequence " << i << " in step " << step;
      hot_error += error;
      gpu_error += root_mean_square(expected, all_on_gpu->logits(row));
      size += scale;
      ++rows;
    }
    traffic.advance(result);
  }
  std::printf("logits %.3g, from the CPU's experts: hot %.3g, all on the GPU %.3g\n", size / rows,
              hot_error / rows, gpu_error / rows);
  EXPECT_LT(hot_error, 1.25 * gpu_error);
  const HotStatistics statistics = *hot->hot_statistics();
  EXPECT_GT(statistics.switches, 20);
  EXPECT_GT(statistics.hits, statistics.pairs / 20);
  EXPECT_LT(statistics.hits, statistics.pairs);
}

// A streamed prompt takes hot experts out of their slots, the others over the bus: the same weights
// and kernels as with all of them on the GPU, while experts move.
TEST_P(GpuEngineTest, StreamedPromptsTakeHotExpertsOutOfTheirSlots) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 3);
  Options options = gpu_options();
  options.hot.on = false;
  const std::unique_ptr<LocalEngine> all_on_gpu = load(*file, options);
  options.placement.cpu_expert_layers = models::PlacementWishes::kAllLayers;
  options.hot.on = true;
  options.hot.gpu_bytes = int64_t{200} << 20;
  options.hot.policy = {.ratio = 0.0, .margin = -1.0};
  options.stream_experts = 16;
  const std::unique_ptr<LocalEngine> streams = load(*file, options);
  ASSERT_TRUE(streams->hot_statistics());
  for (int i = 0; i < 12; ++i) {
    Traffic prompt(streams->info());
    for (int skipped = 0; skipped < i; ++skipped) prompt.token();
    prompt.join(40, {.temperature = 0.0F, .logit_bias = {}});
    prompt.advance(streams->step(prompt.batch()));
    Traffic same(streams->info());
    for (int skipped = 0; skipped < i; ++skipped) same.token();
    same.join(40, {.temperature = 0.0F, .logit_bias = {}});
    all_on_gpu->step(same.batch());
    const std::span<const float> expected = all_on_gpu->logits(0);
    EXPECT_LT(root_mean_square(expected, streams->logits(0)), 1e-4 * root_mean_square(expected, {}))
        << "prompt " << i;
    streams->step(prompt.batch());  // generates: counts, and moves experts
  }
  EXPECT_GT(streams->hot_statistics()->switches, 8);
}

// With room for all of them the CPU has none left, and where they fit they all are.
TEST_P(GpuEngineTest, AllExpertsAreHotWhereTheyFit) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 2);
  Options options = gpu_options();
  options.placement.cpu_expert_layers = models::PlacementWishes::kAllLayers;
  const std::unique_ptr<LocalEngine> engine = load(*file, options);
  Traffic traffic(engine->info());
  traffic.join(20, {.temperature = 0.0F, .logit_bias = {}});
  for (int step = 0; step < 5; ++step) traffic.advance(engine->step(traffic.batch()));
  ASSERT_TRUE(engine->hot_statistics());
  const HotStatistics statistics = *engine->hot_statistics();
  EXPECT_GT(statistics.pairs, 0);
  EXPECT_EQ(statistics.hits, statistics.pairs);
  EXPECT_EQ(statistics.used_slots, statistics.slots);
  EXPECT_EQ(statistics.switches, 0);
}

// A restart begins with the experts that the run before used most.
TEST_P(GpuEngineTest, CountsOutliveTheEngine) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(GetParam(), 2);
  const std::string path = ::testing::TempDir() + "hot_" + GetParam() + ".json";
  std::remove(path.c_str());
  Options options = gpu_options();
  options.placement.cpu_expert_layers = models::PlacementWishes::kAllLayers;
  options.hot.gpu_bytes = int64_t{150} << 20;
  options.hot.policy.margin = 1e9;  // nothing moves
  options.hot.file = path;
  const auto share = [&] {
    const std::unique_ptr<LocalEngine> engine = load(*file, options);
    Traffic traffic(engine->info());
    traffic.join(200, {.temperature = 0.0F, .logit_bias = {}});
    Batch batch = traffic.batch();
    SequenceSlice slice = batch.sequences.front();
    const std::vector<int32_t> pages = {0, 1, 2, 3};
    slice.pages = pages;
    engine->step({.tokens = batch.tokens, .sequences = {&slice, 1}});
    const HotStatistics statistics = *engine->hot_statistics();
    return static_cast<double>(statistics.hits) / static_cast<double>(statistics.pairs);
  };
  const double before = share(), after = share();
  std::printf("%.3f of the pairs at first, %.3f after a restart\n", before, after);
  EXPECT_GT(after, before + 0.02);
  std::remove(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(Models, GpuEngineTest, ::testing::Values("ds-v2-lite", "qwen3-30b-a3b"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::erase_if(name, [](char c) { return c == '-'; });
                           return name;
                         });

// What a kernel does wrong shows as an Error of the step that it was part of. In a process of its
// own: the device's context is lost with it.
void step_with_a_page_that_is_not_there() {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic("qwen3-30b-a3b", 1);
  const std::unique_ptr<LocalEngine> engine = load(*file, gpu_options());
  if (engine->broken()) std::_Exit(5);
  const TokenId token = 1;
  const int32_t page = 1 << 24;
  const SamplingParams greedy = {.temperature = 0.0F, .logit_bias = {}};
  const SequenceSlice slice = {.num_tokens = 1,
                               .position = 0,
                               .pages = {&page, 1},
                               .sample = true,
                               .sampling = &greedy,
                               .history = {&token, 1},
                               .prompt_tokens = 1,
                               .banned = {}};
  try {
    engine->step({.tokens = {&token, 1}, .sequences = {&slice, 1}});
  } catch (const Error& error) {
    std::fprintf(stderr, "an error: %s\n", error.what());
    std::_Exit(engine->broken() ? 3 : 4);
  }
}

TEST(GpuEngineDeathTest, AFailingKernelIsAnError) {
  if (platform::find_gpus().list.empty()) GTEST_SKIP() << platform::find_gpus().missing;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(step_with_a_page_that_is_not_there(), ::testing::ExitedWithCode(3),
              "an error: .*illegal memory access");
}

}  // namespace
}  // namespace tandem::engine
