// Every instruction set's matrix kernels and activation quantisers equal the scalar truth bit for
// bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "quant/activation.h"
#include "quant/panels.h"
#include "quant/reference.h"
#include "tests/quant/random_weights.h"

namespace tandem::cpu {
namespace {

using quant::ActivationFormat;
using testing::random_floats;
using testing::random_weights;

// A matrix [n, k] as rows, the same in the layout that kernels read, and rows of activations; all
// with gaps between rows or panels.
struct Operands {
  DType type;
  int n, k;
  int64_t w_stride = 0, x_stride = 0, packed_stride = 0;
  std::vector<std::byte> w = {}, x = {}, packed = {};
};

void pack(Operands& o) {
  if (!quant::has_panels(o.type)) {
    o.packed_stride = o.w_stride;
    o.packed = o.w;
    return;
  }
  o.packed_stride = quant::panel_bytes(o.type, o.k) + 64;
  o.packed.resize(static_cast<size_t>((o.n + 15) / 16 * o.packed_stride));
  for (int row = 0; row < o.n; row += 16) {
    quant::pack_panel(o.type, o.w.data() + row * o.w_stride, o.w_stride, std::min(16, o.n - row),
                      o.k, o.packed.data() + row / 16 * o.packed_stride);
  }
}

Operands make_operands(DType type, int n, int k, std::vector<std::byte> (*weights)(const Operands&),
                       const std::vector<std::vector<float>>& rows) {
  const quant::TypeTraits& traits = quant::traits(type);
  Operands o = {.type = type, .n = n, .k = k};
  o.w_stride = quant::row_bytes(type, k) + 6;
  o.w = weights(o);
  pack(o);
  o.x_stride = quant::activation_bytes(traits.activation, k) + 8;
  o.x.resize(rows.size() * static_cast<size_t>(o.x_stride));
  for (size_t r = 0; r < rows.size(); ++r) {
    quant::quantize_activations(traits.activation, rows[r].data(),
                                o.x.data() + static_cast<int64_t>(r) * o.x_stride, k);
  }
  return o;
}

// Runs all instruction sets on t tokens, whose rows of x are `x_rows`, or the first t if empty.
void expect_scalar_bits(const Operands& o, int t, const std::vector<int32_t>& x_rows) {
  std::vector<float> truth;
  for (int i = 0; i < t; ++i) {
    const int64_t row = x_rows.empty() ? i : x_rows[static_cast<size_t>(i)];
    for (int j = 0; j < o.n; ++j) {
      truth.push_back(
          quant::dot(o.type, o.w.data() + j * o.w_stride, o.x.data() + row * o.x_stride, o.k));
      ASSERT_TRUE(std::isfinite(truth.back()));
    }
  }
  const int64_t y_stride = o.n + 3;
  constexpr float kUntouched = 7.0F;
  for (const Table& table : tables()) {
    if (!table.supported) continue;
    const LinearFn linear = table.linear[static_cast<size_t>(o.type)];
    ASSERT_NE(linear, nullptr);
    std::vector<float> y(static_cast<size_t>(t * y_stride), kUntouched);
    linear({
        .w = o.packed.data(),
        .w_stride = o.packed_stride,
        .x = o.x.data(),
        .x_stride = o.x_stride,
        .x_rows = x_rows.empty() ? nullptr : x_rows.data(),
        .y = y.data(),
        .y_stride = y_stride,
        .n = o.n,
        .k = o.k,
        .t = t,
        .prefetch_bytes = t % 2 == 0 ? 0 : 1024,  // asking early changes no bit
    });
    for (int i = 0; i < t; ++i) {
      for (int j = 0; j < y_stride; ++j) {
        const float expected = j < o.n ? truth[static_cast<size_t>(i * o.n + j)] : kUntouched;
        const float actual = y[static_cast<size_t>(i * y_stride + j)];
        ASSERT_EQ(std::memcmp(&actual, &expected, sizeof actual), 0)
            << table.name << " n=" << o.n << " k=" << o.k << " t=" << t << ": token " << i
            << ", row " << j << " is " << actual << ", not " << expected;
      }
    }
  }
}

class Linear : public ::testing::TestWithParam<DType> {};

TEST_P(Linear, EqualsScalarDotBitForBit) {
  const DType type = GetParam();
  const int block = quant::traits(type).block_elements;
  const std::vector<int> widths = block == 256  ? std::vector<int>{256, 768}
                                  : block == 32 ? std::vector<int>{32, 96, 256, 544}
                                                : std::vector<int>{1, 15, 16, 37, 128};
  for (const int k : widths) {
    std::vector<std::vector<float>> rows;
    for (uint32_t r = 0; r < 72; ++r) rows.push_back(random_floats(k, 3.0F, 50 + r));
    for (const int n : {1, 4, 17, 32}) {
      const Operands o = make_operands(
          type, n, k,
          [](const Operands& m) { return random_weights(m.type, m.n, m.k, m.w_stride, 11); }, rows);
      // Below, at and above the tiles of tokens that the kernels decode a block for.
      for (const int t : {1, 2, 3, 5, 9, 16, 17, 70}) {
        expect_scalar_bits(o, t, {});
        std::vector<int32_t> shuffled;
        for (int i = 0; i < t; ++i) shuffled.push_back((i * 5 + 1) % 72);
        expect_scalar_bits(o, t, shuffled);
      }
    }
  }
}

// Codes, scales and activations at the ends of their ranges, where a sum of 16 bits would saturate.
TEST_P(Linear, EqualsScalarDotAtTheExtremes) {
  const DType type = GetParam();
  if (quant::traits(type).block_elements == 1) return;  // no codes
  constexpr int kWidth = 512;
  std::vector<std::vector<float>> rows(4, std::vector<float>(kWidth, 2.0F));
  for (size_t i = 0; i < kWidth; ++i) {
    rows[1][i] = -2.0F;
    rows[2][i] = i % 2 == 0 ? 2.0F : -2.0F;
    rows[3][i] = i % 4 < 2 ? -2.0F : 2.0F;
  }
  // Every row of weights repeats one byte or two.
  const auto extreme_weights = [](const Operands& m) {
    constexpr uint8_t kBytes[] = {0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0, 0x81, 0x88, 0x77};
    const quant::TypeTraits& traits = quant::traits(m.type);
    std::vector<std::byte> w(static_cast<size_t>(m.n * m.w_stride));
    for (int j = 0; j < m.n; ++j) {
      std::byte* row = w.data() + j * m.w_stride;
      for (int64_t i = 0; i < m.w_stride; ++i) {
        row[i] = std::byte{kBytes[(j + (j >= 9 ? i % 2 : 0)) % 9]};
      }
      for (int b = 0; b < m.k / traits.block_elements; ++b) {
        testing::set_factors(m.type, row + b * traits.block_bytes, [] { return 1.0F; });
      }
    }
    return w;
  };
  const Operands o = make_operands(type, 18, kWidth, extreme_weights, rows);
  for (const int t : {1, 4}) expect_scalar_bits(o, t, {});
  std::vector<int32_t> all_of_them(15);
  for (int i = 0; i < 15; ++i) all_of_them[static_cast<size_t>(i)] = i % 4;
  expect_scalar_bits(o, 15, all_of_them);
}

INSTANTIATE_TEST_SUITE_P(Types, Linear, ::testing::ValuesIn(testing::kWeightTypes),
                         [](const auto& type) {
                           return std::string(quant::traits(type.param).name);
                         });

TEST(Linear, NoKernelForWhatIsNoWeight) {
  for (const Table& table : tables()) {
    if (!table.supported) {
      std::printf("[ SKIPPED  ] %s: this CPU does not have it\n", std::string(table.name).c_str());
      continue;
    }
    for (uint32_t id = 0; id < kDTypeLimit; ++id) {
      const quant::TypeTraits* traits = quant::find_traits(id);
      EXPECT_EQ(table.linear[id] != nullptr, traits != nullptr && traits->supported)
          << table.name << " id " << id;
    }
  }
}

TEST(Linear, NegativeZeroSurvivesMissingLanes) {
  // -2^-100 * 2^-100 underflows to -0 in every lane that exists, and in no other.
  const std::vector<float> w(37, -0x1p-100F), x(37, 0x1p-100F);
  for (const Table& table : tables()) {
    if (!table.supported) continue;
    float y = 1.0F;
    table.linear[static_cast<size_t>(DType::kF32)]({
        .w = reinterpret_cast<const std::byte*>(w.data()),
        .w_stride = 148,
        .x = reinterpret_cast<const std::byte*>(x.data()),
        .x_stride = 148,
        .x_rows = nullptr,
        .y = &y,
        .y_stride = 1,
        .n = 1,
        .k = 37,
        .t = 1,
    });
    const float truth = quant::dot(DType::kF32, w.data(), x.data(), 37);
    EXPECT_EQ(std::memcmp(&y, &truth, sizeof y), 0) << table.name;
  }
}

TEST(QuantizeActivations, EveryInstructionSetEqualsTheScalarCode) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr int64_t kLength = 768;
  std::vector<std::vector<float>> rows = {random_floats(kLength, 3.0F, 1),
                                          random_floats(kLength, 3.0F, 2)};
  for (const float value : {0.0F, -0.0F, -1e-40F, 1e-34F, 1e-33F, 3.4e38F, -3.4e38F, kInfinity,
                            -kInfinity, kNaN, -kNaN}) {
    rows.emplace_back(kLength, value);
    rows.push_back(random_floats(kLength, 1.0F, 3));
    rows.back()[37] = value;
    rows.back()[300] = value;
  }
  // Halves, which must round to even: the largest magnitude makes the scale 1.
  for (const float largest : {127.0F, 16256.0F}) {
    rows.emplace_back(kLength);
    for (size_t i = 0; i < kLength; ++i) {
      rows.back()[i] = i % 32 == 0 ? largest : static_cast<float>(i % 32) - 15.5F;
    }
  }
  for (const auto& x : rows) {
    for (const auto format : {ActivationFormat::kA32, ActivationFormat::kA256}) {
      const auto bytes = static_cast<size_t>(quant::activation_bytes(format, kLength));
      std::vector<std::byte> truth(bytes);
      quant::quantize_activations(format, x.data(), truth.data(), kLength);
      for (const Table& table : tables()) {
        if (!table.supported) continue;
        std::vector<std::byte> out(bytes);
        (format == ActivationFormat::kA32 ? table.quantize_a32 : table.quantize_a256)(
            x.data(), out.data(), kLength);
        EXPECT_EQ(std::memcmp(out.data(), truth.data(), bytes), 0)
            << table.name << ", a row with " << x[37];
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
