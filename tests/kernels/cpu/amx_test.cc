// The matrix kernels on tile registers equal the scalar truth bit for bit: on emulated registers
// wherever there is AVX-512, on the machine's where it has them.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/amx/emulated.h"
#include "kernels/cpu/kernels.h"
#include "quant/activation.h"
#include "quant/panels.h"
#include "quant/reference.h"
#include "tests/quant/random_weights.h"

namespace tandem::cpu {
namespace {

constexpr int kRows = 48;  // of weights
constexpr float kUntouched = 7.0F;

std::vector<DType> panel_types() {
  std::vector<DType> types;
  for (const DType type : testing::kWeightTypes) {
    if (quant::has_panels(type)) types.push_back(type);
  }
  return types;
}

// The emulated table, and the real one where there is one; none without AVX-512.
const std::vector<Table>& tile_tables() {
  static const std::vector<Table> list = [] {
    std::vector<Table> result;
    for (const Table& table : tables()) {
      if (!table.supported) continue;
      if (table.name == "amx") result.push_back(table);
      if (table.name != "avx512") continue;
      Table& emulated = result.emplace_back();
      emulated.name = "emulated amx";
      amx::fill_emulated_table(emulated);
    }
    return result;
  }();
  return list;
}

// kRows rows of weights in panels, rows of activations with gaps between them, and the truth.
struct Operands {
  DType type;
  int k;
  int tokens;
  int64_t w_stride, x_stride;
  std::vector<std::byte> w, x;
  std::vector<float> truth;  // [tokens, kRows]
};

Operands make_operands(DType type, int k, const std::vector<std::byte>& rows,
                       const std::vector<std::vector<float>>& activations) {
  const quant::ActivationFormat format = quant::traits(type).activation;
  const int64_t row_bytes = quant::row_bytes(type, k);
  Operands o = {.type = type,
                .k = k,
                .tokens = static_cast<int>(activations.size()),
                .w_stride = quant::panel_bytes(type, k) + 64,
                .x_stride = quant::activation_bytes(format, k) + 8,
                .w = {},
                .x = {},
                .truth = {}};
  o.w.resize(static_cast<size_t>(kRows / 16 * o.w_stride));
  for (int row = 0; row < kRows; row += 16) {
    quant::pack_panel(type, rows.data() + row * row_bytes, row_bytes, 16, k,
                      o.w.data() + row / 16 * o.w_stride);
  }
  // No byte more than the last row has: reading beyond it is an error.
  o.x.resize(static_cast<size_t>((o.tokens - 1) * o.x_stride + o.x_stride - 8));
  for (int t = 0; t < o.tokens; ++t) {
    std::byte* x = o.x.data() + t * o.x_stride;
    quant::quantize_activations(format, activations[static_cast<size_t>(t)].data(), x, k);
    for (int row = 0; row < kRows; ++row) {
      o.truth.push_back(quant::dot(type, rows.data() + row * row_bytes, x, k));
    }
  }
  return o;
}

// n outputs of the last t tokens, so that what lies beyond the last row is not ours.
void expect_truth(const Operands& o, int n, int t, bool indexed = false) {
  const int first = o.tokens - t;
  std::vector<int32_t> x_rows(static_cast<size_t>(t));
  for (int i = 0; i < t; ++i) x_rows[static_cast<size_t>(i)] = t - 1 - i;
  for (const Table& table : tile_tables()) {
    const int64_t y_stride = n + 5;
    std::vector<float> y(static_cast<size_t>(t * y_stride), kUntouched);
    table.linear[static_cast<size_t>(o.type)]({
        .w = o.w.data(),
        .w_stride = o.w_stride,
        .x = o.x.data() + first * o.x_stride,
        .x_stride = o.x_stride,
        .x_rows = indexed ? x_rows.data() : nullptr,
        .y = y.data(),
        .y_stride = y_stride,
        .n = n,
        .k = o.k,
        .t = t,
    });
    for (int i = 0; i < t; ++i) {
      const int token = first + (indexed ? t - 1 - i : i);
      for (int j = 0; j < y_stride; ++j) {
        const float expected = j < n ? o.truth[static_cast<size_t>(token * kRows + j)] : kUntouched;
        const float actual = y[static_cast<size_t>(i * y_stride + j)];
        ASSERT_EQ(std::memcmp(&actual, &expected, sizeof actual), 0)
            << table.name << " n=" << n << " k=" << o.k << " t=" << t << ": token " << i << ", row "
            << j << " is " << actual << ", not " << expected;
      }
    }
  }
}

class TileLinear : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (tile_tables().empty()) GTEST_SKIP() << "this CPU has no AVX-512";
  }
};

Operands random_operands(DType type, int k, uint32_t tokens) {
  std::vector<std::vector<float>> activations;
  for (uint32_t t = 0; t < tokens; ++t) activations.push_back(testing::random_floats(k, 3.0F, t));
  return make_operands(
      type, k, testing::random_weights(type, kRows, k, quant::row_bytes(type, k), 11), activations);
}

// Every split of tokens into tiles, and more than share a decoded block.
TEST_P(TileLinear, EqualsScalarDotForAnyNumberOfTokens) {
  const DType type = GetParam();
  const int k = quant::traits(type).block_elements == 256 ? 256 : 96;
  const Operands o = random_operands(type, k, 135);
  for (int t = 1; t <= 70; ++t) {
    for (const int n : {16, 33, 48}) expect_truth(o, n, t);
  }
  for (const int t : {127, 128, 129, 135}) expect_truth(o, 33, t);
}

// One block, odd numbers of blocks, and more columns than are decoded at once.
TEST_P(TileLinear, EqualsScalarDotForAnyWidth) {
  const DType type = GetParam();
  const std::vector<int> widths = quant::traits(type).block_elements == 256
                                      ? std::vector<int>{768, 2048}
                                      : std::vector<int>{32, 256, 544, 1408, 2048, 2080, 4192};
  for (const int k : widths) {
    const Operands o = random_operands(type, k, 64);
    for (const int t : {8, 9, 14, 15, 16, 17, 31, 33, 64}) expect_truth(o, 33, t);
  }
}

TEST_P(TileLinear, TakesRowsByIndex) {
  const Operands o = random_operands(GetParam(), 256, 20);
  expect_truth(o, 33, 20, true);
}

// Codes, scales and activations at the ends of their ranges.
TEST_P(TileLinear, EqualsScalarDotAtTheExtremes) {
  const DType type = GetParam();
  constexpr int kWidth = 512;
  std::vector<std::vector<float>> activations(16, std::vector<float>(kWidth, 2.0F));
  for (size_t i = 0; i < kWidth; ++i) {
    activations[1][i] = -2.0F;
    activations[2][i] = i % 2 == 0 ? 2.0F : -2.0F;
    activations[3][i] = i % 4 < 2 ? -2.0F : 2.0F;
    activations[4][i] = 0.0F;
    activations[5][i] = i == 0 ? -2.0F : 1e-3F;
  }
  // Every row of weights repeats one byte or two.
  constexpr uint8_t kBytes[] = {0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0, 0x81, 0x88, 0x77, 0x3f, 0xc0};
  const quant::TypeTraits& traits = quant::traits(type);
  const int64_t row_bytes = quant::row_bytes(type, kWidth);
  std::vector<std::byte> rows(static_cast<size_t>(kRows * row_bytes));
  for (int j = 0; j < kRows; ++j) {
    std::byte* row = rows.data() + j * row_bytes;
    for (int64_t i = 0; i < row_bytes; ++i) {
      row[i] = std::byte{kBytes[(j + (j >= 11 ? i % 2 * (j / 11) : 0)) % 11]};
    }
    for (int b = 0; b < kWidth / traits.block_elements; ++b) {
      testing::set_factors(type, row + b * traits.block_bytes,
                           [j] { return j % 3 == 2 ? -1.0F : 1.0F; });
    }
  }
  const Operands o = make_operands(type, kWidth, rows, activations);
  for (const float value : o.truth) ASSERT_TRUE(std::isfinite(value));
  expect_truth(o, kRows, 16);
}

INSTANTIATE_TEST_SUITE_P(Types, TileLinear, ::testing::ValuesIn(panel_types()),
                         [](const auto& type) {
                           return std::string(quant::traits(type.param).name);
                         });

}  // namespace
}  // namespace tandem::cpu
