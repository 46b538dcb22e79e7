// Whole layers on the CPU before those on a GPU. Over a GPU whose operators are the CPU's, so that
// every division of the layers gives the bits of the CPU alone; no card is needed.
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "engine/cpu_engine.h"
#include "engine/gpu_engine.h"
#include "gguf/synthetic.h"
#include "tests/engine/host_gpu.h"

namespace tandem::engine {
namespace {

constexpr int kLayers = 3, kPages = 8, kPageSize = 64;

Options small_options() {
  Options options;
  options.threads = 2;
  options.cache_tokens = kPages * kPageSize;
  options.page_size = kPageSize;
  options.max_step_tokens = 32;
  options.max_step_sequences = 4;
  return options;
}

class LeadingLayersTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    file_ = gguf::open_synthetic("qwen3-30b-a3b", kLayers).release();
    auto cpu = std::make_unique<CpuEngine>(*file_, small_options());
    cpu->load_weights({});
    cpu_ = cpu.release();
  }
  static void TearDownTestSuite() {
    delete cpu_;
    delete file_;
  }

  // experts: of the layers that are not wholly on the CPU.
  static std::unique_ptr<GpuEngine> divided(int cpu_layers, Device experts) {
    Plan plan;
    plan.on_gpu = true;
    plan.cpu_layers = cpu_layers;
    plan.experts.assign(kLayers, experts);
    std::fill_n(plan.experts.begin(), cpu_layers, Device::kCpu);
    auto engine =
        std::make_unique<GpuEngine>(*file_, small_options(), std::make_unique<HostGpu>(), plan);
    engine->load_weights({});
    return engine;
  }

  static inline gguf::File* file_ = nullptr;
  static inline CpuEngine* cpu_ = nullptr;
};

// A sequence in a page of its own.
struct Sequence {
  int32_t page;
  std::vector<TokenId> tokens;
  int32_t done = 0;  // whose keys are stored
};

std::vector<Sequence> some_sequences() {
  std::mt19937 random(3);
  std::vector<Sequence> list;
  for (const int32_t prompt : {5, 1, 17}) {
    Sequence s = {static_cast<int32_t>(2 * list.size() + 1), {}};
    for (int32_t i = 0; i < prompt; ++i) s.tokens.push_back(static_cast<TokenId>(random() % 1000));
    list.push_back(std::move(s));
  }
  return list;
}

// One step of all: what has no keys yet. Returns the logits of each, one after the other, and takes
// the next tokens.
std::vector<float> step(LocalEngine& engine, std::vector<Sequence>& sequences) {
  static const SamplingParams greedy = {.temperature = 0.0F, .logit_bias = {}};
  std::vector<TokenId> flat;
  std::vector<SequenceSlice> slices;
  for (const Sequence& s : sequences) {
    flat.insert(flat.end(), s.tokens.begin() + s.done, s.tokens.end());
    slices.push_back({.num_tokens = static_cast<int32_t>(s.tokens.size()) - s.done,
                      .position = s.done,
                      .pages = {&s.page, 1},
                      .sample = true,
                      .sampling = &greedy,
                      .history = s.tokens,
                      .prompt_tokens = 1,
                      .banned = {}});
  }
  const StepResult result = engine.step({.tokens = flat, .sequences = slices});
  std::vector<float> logits;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const std::span<const float> row = engine.logits(static_cast<int32_t>(i));
    logits.insert(logits.end(), row.begin(), row.end());
    sequences[i].done = static_cast<int32_t>(sequences[i].tokens.size());
    sequences[i].tokens.push_back(result.tokens[i].token);
  }
  return logits;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A step of prompts, then steps that generate, of three sequences filled up to four rows.
TEST_F(LeadingLayersTest, EveryDivisionGivesTheSameBits) {
  std::vector<Sequence> expected_sequences = some_sequences();
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < 4; ++i) expected.push_back(step(*cpu_, expected_sequences));
  EXPECT_FALSE(same_bits(expected[1], expected[2]));
  for (const Device experts : {Device::kCuda, Device::kCpu}) {
    for (int cpu_layers = 0; cpu_layers <= kLayers; ++cpu_layers) {
      SCOPED_TRACE(cpu_layers);
      const std::unique_ptr<GpuEngine> engine = divided(cpu_layers, experts);
      std::vector<Sequence> sequences = some_sequences();
      for (int i = 0; i < 4; ++i) {
        EXPECT_TRUE(same_bits(step(*engine, sequences), expected[static_cast<size_t>(i)])) << i;
      }
      EXPECT_EQ(sequences[2].tokens, expected_sequences[2].tokens);
    }
  }
}

// Weights and cache are where the plan says, each once; a page is made of both sides' layers.
TEST_F(LeadingLayersTest, EachSideHoldsItsLayers) {
  const EngineInfo whole = divided(0, Device::kCuda)->info();
  const EngineInfo two = divided(2, Device::kCuda)->info();
  EXPECT_EQ(two.page_bytes, whole.page_bytes);
  EXPECT_NE(two.page_format, whole.page_format);
  EXPECT_NE(two.page_format, divided(1, Device::kCuda)->info().page_format);
  EXPECT_NE(two.page_format, cpu_->info().page_format);
  EXPECT_EQ(divided(2, Device::kCuda)->weight_file_bytes(), cpu_->weight_file_bytes());
}

// What the prefix cache and its tiers do with pages: a copy to another page, and to another engine.
TEST_F(LeadingLayersTest, PagesMoveWithBothSidesLayers) {
  const std::unique_ptr<GpuEngine> first = divided(2, Device::kCuda);
  std::vector<Sequence> sequences = some_sequences();
  step(*first, sequences);
  std::vector<Sequence> elsewhere = sequences, copied = sequences;
  std::vector<std::byte> page(static_cast<size_t>(first->info().page_bytes));
  const std::unique_ptr<GpuEngine> second = divided(2, Device::kCuda);
  for (size_t i = 0; i < sequences.size(); ++i) {
    first->read_page(sequences[i].page, page);
    elsewhere[i].page = static_cast<int32_t>(7 - i);
    second->write_page(elsewhere[i].page, page);
    copied[i].page = sequences[i].page + 1;
    first->copy_page(sequences[i].page, copied[i].page);
  }
  const std::vector<float> expected = step(*first, sequences);
  EXPECT_TRUE(same_bits(step(*second, elsewhere), expected));
  EXPECT_TRUE(same_bits(step(*first, copied), expected));
}

// The CPU's part is done in finish(), so nothing runs before it.
TEST_F(LeadingLayersTest, NothingRunsBetweenTheHalvesOfAStep) {
  const std::unique_ptr<GpuEngine> engine = divided(1, Device::kCuda);
  const TokenId token = 1;
  const int32_t page = 0;
  const SequenceSlice slice = {.num_tokens = 1,
                               .position = 0,
                               .pages = {&page, 1},
                               .sample = true,
                               .sampling = nullptr,
                               .history = {&token, 1},
                               .prompt_tokens = 1,
                               .banned = {}};
  engine->begin({.tokens = {&token, 1}, .sequences = {&slice, 1}});
  EXPECT_FALSE(engine->running());
  engine->finish();
  EXPECT_EQ(engine->logits(0).size(), static_cast<size_t>(engine->info().vocab_size));
}

}  // namespace
}  // namespace tandem::engine
