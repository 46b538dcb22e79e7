// Properties that quantised activations have whatever their values: error within half a step, exact
// sums, full range used, and no way for odd floats to leave the range that the kernels rely on.
#include "quant/activation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "quant/reference.h"

namespace tandem::quant {
namespace {

constexpr int kHighest32 = 16256;
constexpr int kHighest256 = 127;

// A quantised row in any format: its integers q, their scales and stored sums in the order of the
// row.
struct Quantised {
  int width;                    // elements under one scale
  std::vector<int> q = {};      // [k]
  std::vector<float> d = {};    // [k / width]
  std::vector<int> of_16 = {};  // [k / 16], kA256 only
  std::vector<int> of_32 = {};  // [k / 32]
};

std::vector<std::byte> quantised_bytes(ActivationFormat format, const std::vector<float>& x) {
  const auto k = static_cast<int64_t>(x.size());
  std::vector<std::byte> bytes(static_cast<size_t>(activation_bytes(format, k)));
  quantize_activations(format, x.data(), bytes.data(), k);
  return bytes;
}

Quantised quantize32(const std::vector<float>& x) {
  const std::vector<std::byte> bytes = quantised_bytes(ActivationFormat::kA32, x);
  Quantised out{.width = 32};
  const A32Row row = a32_row(bytes.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE(std::abs(static_cast<int>(row.hi[i])), 127);
    EXPECT_GE(row.lo[i], -64);
    EXPECT_LE(row.lo[i], 63);
    out.q.push_back(128 * row.hi[i] + row.lo[i]);
  }
  out.d.assign(row.d, row.d + x.size() / 32);
  out.of_32.assign(row.sum, row.sum + x.size() / 32);
  return out;
}

Quantised quantize256(const std::vector<float>& x) {
  const std::vector<std::byte> bytes = quantised_bytes(ActivationFormat::kA256, x);
  Quantised out{.width = 256};
  const A256Row row = a256_row(bytes.data(), static_cast<int64_t>(x.size()));
  out.q.assign(row.q, row.q + x.size());
  out.d.assign(row.d, row.d + x.size() / 256);
  for (size_t block = 0; block < x.size() / 256; ++block) {
    const int16_t* sums = row.sums + block * kA256Sums;
    for (int i = 0; i < 16; ++i) out.of_16.push_back(sums[sum_position(i)]);
    for (int i = 0; i < 8; ++i) out.of_32.push_back(sums[16 + sum_position(i)]);
  }
  return out;
}

void expect_sums(const std::vector<int>& q, const std::vector<int>& sums, int width) {
  for (size_t g = 0; g < sums.size(); ++g) {
    const auto first = q.begin() + static_cast<int64_t>(g) * width;
    EXPECT_EQ(sums[g], std::accumulate(first, first + width, 0)) << width << "-wide sum " << g;
  }
}

void expect_consistent(const Quantised& row) {
  for (const int q : row.q) EXPECT_LE(std::abs(q), row.width == 32 ? kHighest32 : kHighest256);
  expect_sums(row.q, row.of_16, 16);
  expect_sums(row.q, row.of_32, 32);
}

// Rounding to the nearest integer leaves half a step; the three float roundings on the way (d, the
// inverse and the product) move a value of at most `highest` steps by 3 * 2^-24 of itself.
void expect_close(const std::vector<float>& x, const Quantised& row) {
  const int highest = row.width == 32 ? kHighest32 : kHighest256;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = row.d[i / static_cast<size_t>(row.width)];
    EXPECT_NEAR(d * row.q[i], x[i], d * (0.5 + 3.0 * highest * 0x1p-24)) << "element " << i;
  }
}

TEST(Activations, StayWithinHalfAStep) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (const float size : {1.0F, 1e-20F, 1e20F}) {
    for (int trial = 0; trial < 50; ++trial) {
      std::vector<float> x(512);
      for (float& v : x) v = normal(generator) * size;
      for (const Quantised& row : {quantize32(x), quantize256(x)}) {
        expect_consistent(row);
        expect_close(x, row);
      }
    }
  }
}

TEST(Activations, LargestMagnitudeGetsTheLargestInteger) {
  for (const float largest : {3.7F, -3.7F, 1e-30F, -3.4e38F}) {
    std::vector<float> x(256, 0.0F);
    x[31] = largest;
    const int sign = largest < 0.0F ? -1 : 1;
    EXPECT_EQ(quantize256(x).q[31], sign * kHighest256) << largest;
    EXPECT_EQ(quantize32(x).q[31], sign * kHighest32) << largest;
  }
}

TEST(Activations, RoundHalvesToEven) {
  std::vector<float> x(256, 0.0F);
  x[0] = 127.0F;  // d = 1
  const float halves[] = {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F};
  const int expected[] = {0, 2, 2, 0, -2, -2};
  for (int i = 0; i < 6; ++i) x[1 + i] = halves[i];
  const Quantised row = quantize256(x);
  EXPECT_EQ(row.d[0], 1.0F);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(row.q[1 + i], expected[i]) << halves[i];
}

TEST(Activations, ZeroAndTinyBlocksAreZero) {
  for (const float value : {0.0F, -0.0F, 1e-45F, -1e-40F, 1e-34F}) {
    const std::vector<float> x(256, value);
    for (const Quantised& row : {quantize32(x), quantize256(x)}) {
      expect_consistent(row);
      for (const int q : row.q) EXPECT_EQ(q, 0) << value;
      for (const float d : row.d) EXPECT_LT(d, 1e-35F);
    }
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
  const auto expect_equal = [&](const auto& quantise, size_t width) {
    const Quantised together = quantise(x);
    for (size_t block = 0; block < x.size() / width; ++block) {
      const auto first = x.begin() + static_cast<int64_t>(block * width);
      const Quantised alone =
          quantise(std::vector<float>(first, first + static_cast<int64_t>(width)));
      EXPECT_EQ(alone.d[0], together.d[block]) << "block " << block;
      EXPECT_TRUE(std::equal(alone.q.begin(), alone.q.end(),
                             together.q.begin() + static_cast<int64_t>(block * width)))
          << "block " << block;
    }
  };
  expect_equal(quantize32, 32);
  expect_equal(quantize256, 256);
}

// Kernels read sums in pairs: a 32-bit word holds sums 0 and 2, the next one 1 and 3.
TEST(Activations, SumsAreInTheirStoredOrder) {
  std::vector<float> x(256, 0.0F);
  x[0] = 127.0F;  // d = 1
  for (int i = 1; i < 16; ++i) x[static_cast<size_t>(16 * i)] = static_cast<float>(i);
  const std::vector<std::byte> bytes = quantised_bytes(ActivationFormat::kA256, x);
  const int16_t* sums = a256_row(bytes.data(), 256).sums;
  const int expected_16[] = {127, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
  const int expected_32[] = {128, 9, 5, 13, 17, 25, 21, 29};
  for (int i = 0; i < 16; ++i) EXPECT_EQ(sums[i], expected_16[i]) << "16-wide sum at " << i;
  for (int i = 0; i < 8; ++i) EXPECT_EQ(sums[16 + i], expected_32[i]) << "32-wide sum at " << i;
}

TEST(Activations, SectionsFollowOneAnotherAndBeginAtCacheLines) {
  std::byte row[1024];
  const auto offset = [&](const void* section) {
    return static_cast<const std::byte*>(section) - row;
  };
  const A32Row<std::byte> narrow = a32_row(row, 96);  // 96 bytes take two lines
  EXPECT_EQ(offset(narrow.hi), 0);
  EXPECT_EQ(offset(narrow.lo), 128);
  EXPECT_EQ(offset(narrow.sum), 256);
  EXPECT_EQ(offset(narrow.d), 320);
  EXPECT_EQ(activation_bytes(ActivationFormat::kA32, 96), 384);
  const A256Row<std::byte> wide = a256_row(row, 768);  // sums: 3 * 24 * 2 = 144 bytes, three lines
  EXPECT_EQ(offset(wide.q), 0);
  EXPECT_EQ(offset(wide.sums), 768);
  EXPECT_EQ(offset(wide.d), 960);
  EXPECT_EQ(activation_bytes(ActivationFormat::kA256, 768), 1024);
  EXPECT_EQ(activation_bytes(ActivationFormat::kF32, 37), 148);
}

}  // namespace
}  // namespace tandem::quant
