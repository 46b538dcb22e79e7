// From how many tokens on copying experts to a GPU is the quicker way, on machines described by
// both ways' times; and what becomes of a start that does not get the memory for it.
#include "engine/expert_streaming.h"

#include <gtest/gtest.h>

#include "gguf/synthetic.h"
#include "tests/engine/fake_gpu.h"

namespace tandem::engine {
namespace {

// The CPU: 2 ms and 20 us a token; a copy 8 ms and 1 us a token.
constexpr double cpu(double tokens) { return 2e-3 + 20e-6 * tokens; }
constexpr double copied(double tokens) { return 8e-3 + 1e-6 * tokens; }

StreamTimes times_at(int64_t few, int64_t many) {
  return {.few = few,
          .many = many,
          .cpu = {cpu(static_cast<double>(few)), cpu(static_cast<double>(many))},
          .streamed = {copied(static_cast<double>(few)), copied(static_cast<double>(many))}};
}

// 2 ms + 20 us t = 8 ms + 1 us t at t = 6000 / 19 = 315.8
constexpr int64_t kCross = 316;

TEST(ExpertStreaming, BeginsWhereTheCopyIsQuicker) {
  EXPECT_EQ(quicker_from(times_at(32, 512), 4096), kCross);
  EXPECT_EQ(quicker_from(times_at(32, 512), 512), kCross);
  EXPECT_EQ(quicker_from(times_at(400, 512), 4096), 400);  // below the fewest nothing is known
}

TEST(ExpertStreaming, BeyondTheMeasuredTokensTheLineGoesOn) {
  EXPECT_EQ(quicker_from(times_at(32, 128), 4096), kCross);
  EXPECT_EQ(quicker_from(times_at(32, 128), kCross), kCross);
}

TEST(ExpertStreaming, NeverWhereNoStepIsLongEnough) {
  EXPECT_EQ(quicker_from(times_at(32, 128), kCross - 1), 0);
  EXPECT_EQ(quicker_from(times_at(32, 256), 256), 0);
  EXPECT_EQ(quicker_from(times_at(32, 512), 16), 0);
  EXPECT_EQ(quicker_from(times_at(32, 32), 4096), 0);  // one point is no line
}

TEST(ExpertStreaming, AFastBusStreamsAllAndASlowOneNothing) {
  StreamTimes fast = times_at(32, 512);
  fast.streamed = {1e-3, 1.5e-3};
  EXPECT_EQ(quicker_from(fast, 4096), 32);
  StreamTimes slow = times_at(32, 512);
  slow.streamed = {80e-3, 90e-3};
  EXPECT_EQ(quicker_from(slow, 4096), 0);  // the lines meet at 7700
  slow.streamed = {80e-3, 800e-3};
  EXPECT_EQ(quicker_from(slow, 1 << 20), 0);
}

// A model with a dense layer and two of experts in host memory, not loaded.
struct StreamingStart : ::testing::Test {
  static constexpr int kLayers = 3;

  void begin(
      int stream_from, const std::function<bool(int)>& all_hot = [](int) { return false; }) {
    Plan plan;
    plan.on_gpu = true;
    plan.streamed = {false, true, true};
    plan.stream_from = stream_from;
    ExpertStreaming streaming(gpu, *decoder, plan, largest_expert_layer_bytes(*file));
    streaming.begin(ctx, {}, all_hot);
  }
  bool streams() const {
    bool any = false;
    for (int i = 0; i < kLayers; ++i) any |= decoder->stream_from(i) != moe::kNeverStreamed;
    return any;
  }

  const std::unique_ptr<gguf::File> file = gguf::open_synthetic("ds-v2-lite", kLayers);
  FakeGpu gpu;
  std::unique_ptr<models::Decoder> decoder = models::create_decoder(
      *file, 64, {.gpu = &gpu, .experts = std::vector<Device>(kLayers, Device::kCpu)});
  platform::ThreadPool pool{{.threads = 1, .pin = false}};
  ops::Workspace workspace{size_t{64}};
  ops::Context ctx{.pool = pool, .cpu = cpu::select(""), .workspace = workspace, .gpu = &gpu};
};

// What a driver answers that may not lock so much.
TEST_F(StreamingStart, WithoutLockedMemoryAutoLeavesPromptsToTheCpuAndSaysSo) {
  gpu.refuses_locks = true;
  ::testing::internal::CaptureStderr();
  begin(0);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("prompts' experts stay on the CPU: cannot lock "), std::string::npos) << log;
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  EXPECT_FALSE(streams());
  EXPECT_EQ(gpu.calls, (std::vector<std::string>{"take buffers", "lock", "give buffers back"}));
}

TEST_F(StreamingStart, WithoutBuffersToo) {
  gpu.refuses_buffers = true;
  begin(0);
  EXPECT_FALSE(streams());
  EXPECT_EQ(gpu.calls, (std::vector<std::string>{"take buffers", "give buffers back"}));
}

TEST_F(StreamingStart, ANumberEndsTheStartWithTheReason) {
  gpu.refuses_locks = true;
  try {
    begin(128);
    FAIL();
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("--stream_experts 128: cannot lock "), std::string::npos) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos);
  }
  gpu.refuses_locks = false;
  begin(128);
  EXPECT_EQ(decoder->stream_from(1), 128);
  EXPECT_EQ(decoder->stream_from(2), 128);
}

TEST_F(StreamingStart, NothingIsLockedOrTimedForLayersThatAreAllHot) {
  begin(0, [](int) { return true; });
  EXPECT_FALSE(streams());
  EXPECT_EQ(gpu.calls, std::vector<std::string>());
  // The number is what the user wants, hot or not.
  begin(128, [](int) { return true; });
  EXPECT_TRUE(streams());
  // One layer that is not: the others are left out all the same.
  gpu.refuses_locks = true;
  gpu.calls.clear();
  begin(0, [](int layer) { return layer == 1; });
  EXPECT_EQ(gpu.calls, (std::vector<std::string>{"take buffers", "lock", "give buffers back"}));
}

}  // namespace
}  // namespace tandem::engine
