// What the bandwidth is measured with does the work that is counted: every word is summed or copied
// once. (The measurement of reading checks its own sum.) Speed itself is not tested.
#include "platform/bandwidth.h"

#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::platform {
namespace {

constexpr int64_t kMib = int64_t{1} << 20;

struct alignas(32) Block {
  uint64_t words[8];
};

TEST(Bandwidth, SumsEveryWord) {
  for (const size_t blocks : {0, 1, 5, 1000}) {
    std::vector<Block> memory(blocks);
    uint64_t value = 1, expected = 0;
    for (Block& block : memory) {
      for (uint64_t& word : block.words) {
        expected += word = value;
        value = value * 6364136223846793005 + 1442695040888963407;
      }
    }
    const auto count = static_cast<int64_t>(blocks) * 8;
    EXPECT_EQ(sum_words(blocks == 0 ? nullptr : memory[0].words, count), expected);
  }
}

TEST(Bandwidth, CopiesEveryWordAndNoMore) {
  std::vector<Block> from(100), to(101);
  std::iota(from[0].words, from[0].words + 800, 1);
  copy_words(from[0].words, to[0].words, 800);
  for (size_t i = 0; i < 800; ++i) ASSERT_EQ(to[0].words[i], i + 1);
  for (const uint64_t word : to[100].words) EXPECT_EQ(word, 0U);
}

TEST(Bandwidth, AnyNumberOfThreadsReadsWhatIsCounted) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool({.threads = threads, .pin = false});
    for (const int64_t bytes : {kMib / 2, 7 * kMib, 32 * kMib}) {
      const Bandwidth bandwidth = measure_bandwidth(pool, {.bytes = bytes, .passes = 2});
      EXPECT_GT(bandwidth.read, 0.0);
      EXPECT_GT(bandwidth.copy, 0.0);
    }
  }
}

}  // namespace
}  // namespace tandem::platform
