// Properties that quantised activations have whatever their values: error within half a step, exact
// sums, full range used, and no way for odd floats to leave the range that the kernels rely on.
#include "quant/activation.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "quant/reference.h"

namespace tandem::quant {
namespace {

constexpr int kHighest32 = 16256;
constexpr int kHighest256 = 127;

int integer(const BlockA32& b, int i) { return 128 * b.hi[i] + b.lo[i]; }
int integer(const BlockA256& b, int i) { return b.q[i]; }

BlockA32 quantize32(const std::vector<float>& x) {
  BlockA32 block;
  quantize_activations(ActivationFormat::kA32, x.data(), &block, 32);
  return block;
}
BlockA256 quantize256(const std::vector<float>& x) {
  BlockA256 block;
  quantize_activations(ActivationFormat::kA256, x.data(), &block, 256);
  return block;
}

void expect_consistent(const BlockA32& b) {
  int sum = 0;
  for (int i = 0; i < 32; ++i) {
    EXPECT_LE(std::abs(integer(b, i)), kHighest32);
    EXPECT_LE(std::abs(static_cast<int>(b.hi[i])), 127);
    EXPECT_GE(b.lo[i], -64);
    EXPECT_LE(b.lo[i], 63);
    sum += integer(b, i);
  }
  EXPECT_EQ(b.sum, sum);
}
void expect_consistent(const BlockA256& b) {
  for (int g = 0; g < 16; ++g) {
    int sum = 0;
    for (int i = 16 * g; i < 16 * g + 16; ++i) {
      EXPECT_LE(std::abs(integer(b, i)), kHighest256);
      sum += b.q[i];
    }
    EXPECT_EQ(b.sum[g], sum) << "group " << g;
  }
}

// Rounding to the nearest integer leaves half a step; the three float roundings on the way (d, the
// inverse and the product) move a value of at most `highest` steps by 3 * 2^-24 of itself.
template <typename Block>
void expect_close(const std::vector<float>& x, const Block& b, int highest) {
  const double tolerance = b.d * (0.5 + 3.0 * highest * 0x1p-24);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(static_cast<double>(b.d) * integer(b, static_cast<int>(i)), x[i], tolerance);
  }
}

TEST(Activations, StayWithinHalfAStep) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (const float size : {1.0F, 1e-20F, 1e20F}) {
    for (int trial = 0; trial < 50; ++trial) {
      std::vector<float> x(256);
      for (float& v : x) v = normal(generator) * size;
      const BlockA256 wide = quantize256(x);
      expect_consistent(wide);
      expect_close(x, wide, kHighest256);
      x.resize(32);
      const BlockA32 narrow = quantize32(x);
      expect_consistent(narrow);
      expect_close(x, narrow, kHighest32);
    }
  }
}

TEST(Activations, LargestMagnitudeGetsTheLargestInteger) {
  for (const float largest : {3.7F, -3.7F, 1e-30F, -3.4e38F}) {
    std::vector<float> x(256, 0.0F);
    x[31] = largest;
    const int sign = largest < 0.0F ? -1 : 1;
    EXPECT_EQ(integer(quantize256(x), 31), sign * kHighest256) << largest;
    x.resize(32);
    EXPECT_EQ(integer(quantize32(x), 31), sign * kHighest32) << largest;
  }
}

TEST(Activations, RoundHalvesToEven) {
  std::vector<float> x(256, 0.0F);
  x[0] = 127.0F;  // d = 1
  const float halves[] = {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F};
  const int expected[] = {0, 2, 2, 0, -2, -2};
  for (int i = 0; i < 6; ++i) x[1 + i] = halves[i];
  const BlockA256 b = quantize256(x);
  EXPECT_EQ(b.d, 1.0F);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(b.q[1 + i], expected[i]) << halves[i];
}

TEST(Activations, ZeroAndTinyBlocksAreZero) {
  for (const float value : {0.0F, -0.0F, 1e-45F, -1e-40F, 1e-34F}) {
    const std::vector<float> x(256, value);
    const BlockA256 wide = quantize256(x);
    const BlockA32 narrow = quantize32(x);
    expect_consistent(wide);
    expect_consistent(narrow);
    for (int i = 0; i < 256; ++i) EXPECT_EQ(wide.q[i], 0) << value;
    for (int i = 0; i < 32; ++i) EXPECT_EQ(integer(narrow, i), 0) << value;
    EXPECT_LT(wide.d, 1e-35F);
    EXPECT_LT(narrow.d, 1e-35F);
  }
}

TEST(Activations, NaNsAndInfinitiesStayInRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (const float odd : {kInfinity, -kInfinity, kNaN, -kNaN}) {
    std::vector<float> x(256, 1.0F);
    x[7] = odd;
    expect_consistent(quantize256(x));
    expect_consistent(quantize32(x));
    x.assign(256, odd);
    expect_consistent(quantize256(x));
    expect_consistent(quantize32(x));
  }
}

// A block's bits depend on nothing but its own floats.
TEST(Activations, BlocksAreIndependent) {
  std::vector<float> x(512, 2.0F);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= std::sin(static_cast<float>(i));
  std::vector<BlockA32> together(16);
  quantize_activations(ActivationFormat::kA32, x.data(), together.data(), 512);
  for (size_t i = 0; i < together.size(); ++i) {
    BlockA32 alone;
    quantize_activations(ActivationFormat::kA32, x.data() + 32 * i, &alone, 32);
    EXPECT_EQ(std::memcmp(&alone, &together[i], sizeof alone), 0) << "block " << i;
  }
}

TEST(Activations, Bytes) {
  EXPECT_EQ(activation_bytes(ActivationFormat::kF32, 37), 148);
  EXPECT_EQ(activation_bytes(ActivationFormat::kA32, 96), 3 * int64_t{sizeof(BlockA32)});
  EXPECT_EQ(activation_bytes(ActivationFormat::kA256, 768), 3 * int64_t{sizeof(BlockA256)});
}

}  // namespace
}  // namespace tandem::quant
