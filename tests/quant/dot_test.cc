// The scalar dot products against double precision, on dequantised weights and activations.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "quant/reference.h"
#include "quant/unpack.h"
#include "tests/quant/random_weights.h"

namespace tandem::quant {
namespace {

using testing::random_floats;
using testing::random_weights;

double activation(ActivationFormat format, const std::byte* row, int64_t k, int64_t i) {
  if (format == ActivationFormat::kF32) return reinterpret_cast<const float*>(row)[i];
  if (format == ActivationFormat::kA32) {
    const A32Row x = a32_row(row, k);
    return static_cast<double>(x.d[i / 32]) * (128 * x.hi[i] + x.lo[i]);
  }
  const A256Row x = a256_row(row, k);
  return static_cast<double>(x.d[i / 256]) * x.q[i];
}

// The part of weight i that is its group's minimum.
double minimum(DType dtype, const std::byte* row, int64_t i) {
  const TypeTraits& t = traits(dtype);
  const std::byte* block = row + i / t.block_elements * t.block_bytes;
  if (const UnpackBlock32 unpack = unpack_block32(dtype)) {
    Block32 b;
    unpack(block, b);
    return b.m;
  }
  if (const UnpackSuperBlock unpack = unpack_super_block(dtype)) {
    SuperBlock b;
    unpack(block, b);
    return static_cast<double>(b.dmin) * b.min[i % 256 / 16];
  }
  return 0.0;
}

class Dot : public ::testing::TestWithParam<DType> {};

// Roundings, each 2^-24 of what it rounds. Let A be the sum of (|weight| + 2 |its minimum|) times
// |activation|, which bounds every partial sum:
//  - each float update rounds a partial sum: two for a block of a quantised type, one for 16
//    columns of a float type (and four more in the tree);
//  - d * da, the integer and three steps of dequantize round a share of A each: below 6 A in all.
TEST_P(Dot, IsCloseToDoublePrecision) {
  const DType dtype = GetParam();
  const TypeTraits& t = traits(dtype);
  for (const int64_t k : {int64_t{256}, int64_t{2048}}) {
    for (uint32_t seed = 0; seed < 8; ++seed) {
      const auto w = random_weights(dtype, 1, k, row_bytes(dtype, k), seed);
      std::vector<std::byte> x(static_cast<size_t>(activation_bytes(t.activation, k)));
      quantize_activations(t.activation, random_floats(k, 3.0F, seed + 100).data(), x.data(), k);
      std::vector<float> weights(static_cast<size_t>(k));
      dequantize(dtype, w.data(), weights.data(), k);

      double exact = 0.0, magnitude = 0.0;
      for (int64_t i = 0; i < k; ++i) {
        const double a = activation(t.activation, x.data(), k, i);
        const double weight = weights[static_cast<size_t>(i)];
        exact += weight * a;
        magnitude +=
            (std::fabs(weight) + 2.0 * std::fabs(minimum(dtype, w.data(), i))) * std::fabs(a);
      }
      const int64_t updates = t.block_elements == 1 ? k / 16 + 4 : 2 * k / t.block_elements;
      const double tolerance = magnitude * static_cast<double>(updates + 6) * 0x1p-24;
      EXPECT_NEAR(dot(dtype, w.data(), x.data(), k), exact, tolerance) << "k=" << k;
      // The bound is worth something: far below the sum's own size.
      EXPECT_LT(tolerance, magnitude * 1e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Dot, ::testing::ValuesIn(testing::kWeightTypes),
                         [](const auto& type) { return std::string(traits(type.param).name); });

TEST(FloatDot, LanesTakeEverySixteenthColumn) {
  // 2^24 + 1 is lost in float32, so the order of additions shows: lane 0 holds 2^24, lane 1 the
  // ones of columns 1 and 17, which survive only if they meet before they meet lane 0.
  std::vector<float> w(18, 0.0F);
  w[0] = 0x1p24F;
  w[1] = w[17] = 1.0F;
  const std::vector<float> ones(18, 1.0F);
  EXPECT_EQ(dot(DType::kF32, w.data(), ones.data(), 18), 0x1p24F + 2.0F);
  w[17] = 0.0F;
  w[16] = 1.0F;  // lane 0 as well: lost there, as is lane 1's alone
  EXPECT_EQ(dot(DType::kF32, w.data(), ones.data(), 18), 0x1p24F);
}

TEST(Reduce16, AddsInTheFixedTree) {
  std::vector<float> lanes(16, 0.0F);
  lanes[0] = 0x1p24F;
  lanes[1] = 1.0F;
  lanes[9] = 1.0F;  // meets lane 1 first, so that both count
  EXPECT_EQ(reduce16(lanes.data()), 0x1p24F + 2.0F);
  lanes[9] = 0.0F;
  lanes[8] = 1.0F;  // meets lane 0 first and is lost
  EXPECT_EQ(reduce16(lanes.data()), 0x1p24F);
  for (int i = 0; i < 16; ++i) lanes[static_cast<size_t>(i)] = static_cast<float>(1 << i);
  EXPECT_EQ(reduce16(lanes.data()), 65535.0F);
}

}  // namespace
}  // namespace tandem::quant
