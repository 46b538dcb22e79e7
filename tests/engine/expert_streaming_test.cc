// From how many tokens on copying experts to a GPU is the quicker way, on machines described by
// both ways' times.
#include "engine/expert_streaming.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tandem::engine
