// Elementwise operators, norms and rotations on the device against the CPU's table.
#include "kernels/cuda/elementwise.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/kernels.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope.h"
#include "ops/rope.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using testing::DeviceVector;
using testing::random_floats;

constexpr int kTokens = 5;
constexpr int64_t kWidth = 1037, kStride = 1040;  // odd, and a gap that must stay as it is

bool is_inside(size_t i) { return static_cast<int64_t>(i) % kStride < kWidth; }

class Elementwise : public testing::DeviceTest {
 protected:
  const cpu::Table& cpu_ = cpu::select();
};

TEST_F(Elementwise, AddsAndMultipliesLikeTheCpu) {
  const auto a = random_floats(kTokens * kStride, 1), b = random_floats(kTokens * kStride, 2);
  const auto factors = random_floats(kTokens, 3);
  DeviceVector<float> device_a(a), device_b(b), sums(a), device_factors(factors);
  add({.a = {device_a.data(), kStride},
       .b = {device_b.data(), kStride},
       .out = {sums.data(), kStride},
       .n = kWidth,
       .tokens = kTokens},
      stream());
  auto products = std::vector<DeviceVector<float>>();
  for (const bool sigmoid : {false, true}) {
    multiply_add({.x = {device_a.data(), kStride},
                  .factor = device_factors.data(),
                  .sigmoid = sigmoid,
                  .y = {products.emplace_back(b).data(), kStride},
                  .n = kWidth,
                  .tokens = kTokens},
                 stream());
  }
  auto gates = factors;
  cpu_.sigmoid(gates.data(), kTokens);
  const auto sum = sums.host(), plain = products[0].host(), gated = products[1].host();
  for (size_t i = 0; i < sum.size(); ++i) {
    const size_t t = i / kStride;
    ASSERT_EQ(sum[i], is_inside(i) ? a[i] + b[i] : a[i]) << i;
    ASSERT_EQ(plain[i], is_inside(i) ? std::fma(factors[t], a[i], b[i]) : b[i]) << i;
    ASSERT_EQ(gated[i], is_inside(i) ? std::fma(gates[t], a[i], b[i]) : b[i]) << i;
  }
}

TEST_F(Elementwise, SiluEqualsTheCpuAlsoForExtremes) {
  auto gate = random_floats(kTokens * kStride, 4, 30.0F), up = random_floats(kTokens * kStride, 5);
  const float inf = std::numeric_limits<float>::infinity();
  gate[0] = 200.0F, gate[1] = -200.0F, gate[2] = 0.0F, gate[3] = -0.0F, gate[4] = inf;
  DeviceVector<float> device_gate(gate), device_up(up);
  silu_mul({.gate = {device_gate.data(), kStride},
            .up = {device_up.data(), kStride},
            .out = {device_up.data(), kStride},
            .n = kWidth,
            .tokens = kTokens},
           stream());
  const auto out = device_up.host();
  auto expected = up;
  for (int t = 0; t < kTokens; ++t) {
    float* row = expected.data() + t * kStride;
    cpu_.silu_mul(gate.data() + t * kStride, row, row, kWidth);
  }
  for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], expected[i]) << i << " " << gate[i];
}

TEST_F(Elementwise, GathersRows) {
  const auto from = random_floats(kTokens * 60, 6);
  DeviceVector<float> device_from(from);
  DeviceVector<int32_t> rows(std::vector<int32_t>{4, 0, 4});
  DeviceVector<float> gathered(3 * 60);
  gather_rows({.x = {device_from.data(), 60},
               .rows = rows.data(),
               .out = {gathered.data(), 60},
               .n = 60,
               .count = 3},
              stream());
  const auto out = gathered.host();
  for (size_t i = 0; i < 60; ++i) {
    ASSERT_EQ(out[i], from[240 + i]);
    ASSERT_EQ(out[60 + i], from[i]);
    ASSERT_EQ(out[120 + i], from[240 + i]);
  }
}

// The sum of squares is a sum of n positive terms: its relative error is below n / threads + 2
// log2(threads) units in the last place however it is ordered, below 30 here; the root halves it,
// and four more roundings follow.
constexpr double kNormTolerance = 20 * 0x1.0p-24;

TEST_F(Elementwise, NormsRowsOfAnyWidth) {
  for (const int64_t n : {1, 31, 64, 128, 576, 1037, 2048, 7168}) {
    const int64_t stride = (n + 3) / 4 * 4;
    const int rows = 9;
    const auto x = random_floats(static_cast<size_t>(rows * stride), 8, 3.0F);
    const auto addend = random_floats(x.size(), 9);
    const auto weight = random_floats(static_cast<size_t>(n), 10);
    DeviceVector<float> device_x(x), device_addend(addend), device_weight(weight), y(x.size());
    for (const bool fused : {false, true}) {
      rms_norm({.x = {device_x.data(), stride},
                .addend = {fused ? device_addend.data() : nullptr, fused ? stride : 0},
                .weight = device_weight.data(),
                .y = {y.data(), stride},
                .n = n,
                .rows = rows,
                .epsilon = 1e-6F},
               stream());
      const auto out = y.host(), kept = device_x.host();
      for (int r = 0; r < rows; ++r) {
        double squares = 0.0;
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(r * stride + i);
          ASSERT_EQ(kept[at], fused ? x[at] + addend[at] : x[at]);
          squares += static_cast<double>(kept[at]) * kept[at];
        }
        const double factor = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(r * stride + i);
          const double expected = kept[at] * factor * weight[static_cast<size_t>(i)];
          ASSERT_NEAR(out[at], expected, std::abs(expected) * kNormTolerance) << n << " " << r;
        }
      }
    }
  }
}

TEST_F(Elementwise, FillsTheTableOfAnglesLikeTheCpu) {
  const int dims = 64;
  const std::vector<int32_t> positions = {0, 1, 77, 4095, 131071};
  for (const ops::RopeStyle style : {ops::RopeStyle::kInterleaved, ops::RopeStyle::kHalves}) {
    const ops::RopeConfig config = {.dims = dims,
                                    .base = 10000.0F,
                                    .style = style,
                                    .scale = 1.0F / 40.0F,
                                    .yarn = true,
                                    .magnitude = 1.37F,
                                    .original_context = 4096};
    const bool interleaved = style == ops::RopeStyle::kInterleaved;
    const auto frequencies = ops::rope_frequencies(config);
    platform::ThreadPool pool({.threads = 1, .pin = false});
    ops::Workspace workspace(1 << 16);
    ops::Context ctx{pool, cpu_, workspace};
    std::vector<float> table(positions.size() * dims);
    ops::fill_rope_table(ctx, config, frequencies.data(), positions.data(), kTokens, table.data());

    DeviceVector<int32_t> device_positions(positions);
    DeviceVector<double> device_frequencies(frequencies);
    DeviceVector<float> filled(table.size());
    fill_rope_table({.positions = device_positions.data(),
                     .frequencies = device_frequencies.data(),
                     .table = filled.data(),
                     .dims = dims,
                     .interleaved = interleaved,
                     .magnitude = config.magnitude,
                     .tokens = kTokens},
                    stream());
    const auto filled_host = filled.host();
    // Both are sines of doubles, a unit or two in the last place of a double apart, rounded to
    // floats.
    for (size_t i = 0; i < table.size(); ++i) ASSERT_NEAR(filled_host[i], table[i], 2e-7F) << i;
  }
}

}  // namespace
}  // namespace tandem::cuda
