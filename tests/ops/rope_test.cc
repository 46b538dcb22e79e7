// Rotary embedding against its definition in double precision, and YaRN's limits.
#include "ops/rope.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

class Rope : public ::testing::Test {
 protected:
  // Rotates [T, heads, width] with the rotated part at `offset`.
  std::vector<float> rotate(const RopeConfig& config, std::vector<float> x, int64_t heads,
                            int64_t width, int64_t offset, const std::vector<int32_t>& positions) {
    const auto tokens = static_cast<int64_t>(positions.size());
    std::vector<float> table(static_cast<size_t>(tokens * config.dims));
    fill_rope_table(ctx_, config, rope_frequencies(config).data(), positions.data(), tokens,
                    table.data());
    rope(ctx_, config, table.data(), {x.data() + offset, heads * width, width}, tokens, heads);
    return x;
  }

  platform::ThreadPool pool_{{.threads = 2, .pin = false}};
  Workspace workspace_{1 << 16};
  Context ctx_{pool_, cpu::select(), workspace_};
};

TEST_F(Rope, BothStylesRotateTheirPairs) {
  constexpr int64_t kHeads = 3, kWidth = 24, kOffset = 8;
  constexpr int kDims = 16;
  const std::vector<int32_t> positions = {0, 1, 77, 4095};
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(positions.size() * kHeads * kWidth);
  for (float& v : x) v = normal(generator);
  for (const RopeStyle style : {RopeStyle::kInterleaved, RopeStyle::kHalves}) {
    const RopeConfig config{.dims = kDims, .base = 10000.0F, .style = style};
    const auto y = rotate(config, x, kHeads, kWidth, kOffset, positions);
    for (size_t t = 0; t < positions.size(); ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const size_t head = (t * kHeads + h) * kWidth;
        for (int64_t i = 0; i < kOffset; ++i) EXPECT_EQ(y[head + i], x[head + i]);
        for (int i = 0; i < kDims / 2; ++i) {
          const double angle = positions[t] * std::pow(10000.0, -2.0 * i / kDims);
          const bool interleaved = style == RopeStyle::kInterleaved;
          const size_t a = head + kOffset + (interleaved ? 2 * i : i);
          const size_t b = head + kOffset + (interleaved ? 2 * i + 1 : i + kDims / 2);
          EXPECT_NEAR(y[a], x[a] * std::cos(angle) - x[b] * std::sin(angle), 1e-5);
          EXPECT_NEAR(y[b], x[a] * std::sin(angle) + x[b] * std::cos(angle), 1e-5);
        }
      }
    }
  }
}

TEST_F(Rope, YarnKeepsHighFrequenciesAndScalesLowOnes) {
  const RopeConfig plain{.dims = 64, .base = 10000.0F};
  RopeConfig yarn = plain;
  yarn.yarn = true;
  yarn.scale = 1.0F / 40.0F;
  yarn.original_context = 4096;
  const auto before = rope_frequencies(plain);
  const auto after = rope_frequencies(yarn);
  EXPECT_DOUBLE_EQ(after.front(), before.front());
  EXPECT_NEAR(after.back(), before.back() / 40.0, 1e-9);
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_LE(after[i], before[i] * (1.0 + 1e-6));
    EXPECT_GE(after[i], before[i] / 40.0 * (1.0 - 1e-6));
  }
}

TEST_F(Rope, FactorsDivideFrequencies) {
  const std::vector<float> factors = {1.0F, 2.0F, 4.0F, 8.0F};
  RopeConfig config{.dims = 8, .base = 500000.0F};
  const auto before = rope_frequencies(config);
  config.factors = factors.data();
  const auto after = rope_frequencies(config);
  for (size_t i = 0; i < factors.size(); ++i) EXPECT_NEAR(after[i], before[i] / factors[i], 1e-12);
}

}  // namespace
}  // namespace tandem::ops
