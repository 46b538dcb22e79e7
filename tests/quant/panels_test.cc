// Panels hold the bytes of the file's rows, each where quant/panels.h draws it, and nothing is lost
// on the way there and back.
#include "quant/panels.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "quant/reference.h"
#include "quant/types.h"
#include "tests/quant/random_weights.h"

namespace tandem::quant {
namespace {

using testing::random_weights;

constexpr std::byte kUntouched{0xa5};

std::vector<DType> panel_types() {
  std::vector<DType> types;
  for (const DType dtype : testing::kWeightTypes) {
    if (has_panels(dtype)) types.push_back(dtype);
  }
  return types;
}

// n rows of a matrix as the panels that hold them.
std::vector<std::byte> packed(DType dtype, const std::vector<std::byte>& rows, int64_t n,
                              int64_t k) {
  std::vector<std::byte> panels(static_cast<size_t>(matrix_bytes(dtype, Layout::kPanels, n, k)),
                                kUntouched);
  const int64_t stride = row_bytes(dtype, k);
  for (int64_t first = 0; first < n; first += kPanelRows) {
    pack_panel(dtype, rows.data() + first * stride, stride,
               static_cast<int>(std::min<int64_t>(kPanelRows, n - first)), k,
               panels.data() + first / kPanelRows * panel_bytes(dtype, k));
  }
  return panels;
}

class Panels : public ::testing::TestWithParam<DType> {};

TEST_P(Panels, UnpackToTheRowsTheyWerePackedFrom) {
  const DType dtype = GetParam();
  const int64_t k = 3 * traits(dtype).block_elements;
  const int64_t stride = row_bytes(dtype, k) + 5;  // rows of a wider matrix, at odd addresses
  for (const int count : {1, 7, 16}) {
    const auto rows = random_weights(dtype, count, k, stride, 11);
    std::vector<std::byte> panel(static_cast<size_t>(panel_bytes(dtype, k)), kUntouched);
    pack_panel(dtype, rows.data(), stride, count, k, panel.data());
    std::vector<std::byte> row(static_cast<size_t>(row_bytes(dtype, k)));
    for (int r = 0; r < kPanelRows; ++r) {
      unpack_row(dtype, panel.data(), r, k, row.data());
      for (size_t i = 0; i < row.size(); ++i) {
        // Rows beyond the last are zero bytes.
        const std::byte expected =
            r < count ? rows[static_cast<size_t>(r * stride) + i] : std::byte{0};
        ASSERT_EQ(row[i], expected) << count << " rows, row " << r << " byte " << i;
      }
    }
  }
}

TEST_P(Panels, PutEveryByteWhereTheLayoutSays) {
  const DType dtype = GetParam();
  const TypeTraits& t = traits(dtype);
  const PanelGeometry g = panel_geometry(dtype);
  ASSERT_EQ(4 * g.words + g.rest, t.block_bytes);
  // Groups of one, two or four blocks share a line of rests; the last one here is not full.
  constexpr int64_t kBlocks = 7;
  const int64_t group = g.rest == 0 ? 1 : g.rest == 2 ? 2 : 4;
  const int64_t group_bytes = group * g.words * 64 + (g.rest == 0 ? 0 : 64);
  const int64_t k = kBlocks * t.block_elements;
  const int64_t stride = row_bytes(dtype, k);
  const auto rows = random_weights(dtype, kPanelRows, k, stride, 12);
  const auto panel = packed(dtype, rows, kPanelRows, k);
  std::vector<bool> used(panel.size());
  const auto expect_at = [&](int64_t offset, const std::byte* bytes, int64_t count) {
    EXPECT_TRUE(std::equal(bytes, bytes + count, panel.data() + offset)) << "at " << offset;
    for (int64_t i = offset; i < offset + count; ++i) {
      EXPECT_FALSE(used[static_cast<size_t>(i)]);
      used[static_cast<size_t>(i)] = true;
    }
  };
  for (int64_t b = 0; b < kBlocks; ++b) {
    for (int r = 0; r < kPanelRows; ++r) {
      const std::byte* block = rows.data() + r * stride + b * t.block_bytes;
      const std::byte* words = block + (g.rest_first ? g.rest : 0);
      const int64_t begin = b / group * group_bytes;
      for (int w = 0; w < g.words; ++w) {
        const int64_t line = b % group * g.words + panel_word(dtype, w);
        expect_at(begin + line * 64 + 4 * r, words + 4 * w, 4);
      }
      const int64_t in_group = std::min(group, kBlocks - b / group * group);
      expect_at(begin + in_group * g.words * 64 + (b % group * 16 + r) * g.rest,
                block + (g.rest_first ? 0 : 4 * g.words), g.rest);
    }
  }
  for (size_t i = 0; i < panel.size(); ++i) {
    if (!used[i]) EXPECT_EQ(panel[i], std::byte{0}) << "padding at " << i;
  }
}

// A stack of two matrices with a last panel of three rows.
TEST_P(Panels, DecodeAsRowsDo) {
  const DType dtype = GetParam();
  constexpr int64_t kRows = kPanelRows + 3;
  const int64_t k = 2 * traits(dtype).block_elements;
  const int64_t stride = row_bytes(dtype, k);
  const auto first = random_weights(dtype, kRows, k, stride, 13);
  const auto second = random_weights(dtype, kRows, k, stride, 14);
  std::vector<std::byte> rows = first;
  rows.insert(rows.end(), second.begin(), second.end());
  std::vector<std::byte> panels = packed(dtype, first, kRows, k);
  const std::vector<std::byte> more = packed(dtype, second, kRows, k);
  panels.insert(panels.end(), more.begin(), more.end());

  const Tensor stack_of_rows{.data = rows.data(), .dtype = dtype, .shape = shape(2, kRows, k)};
  const Tensor stack_of_panels{.data = panels.data(),
                               .dtype = dtype,
                               .layout = Layout::kPanels,
                               .shape = shape(2, kRows, k)};
  std::vector<float> expected(static_cast<size_t>(k)), decoded(static_cast<size_t>(k));
  for (int64_t index = 0; index < 2; ++index) {
    // dequantize_row takes a matrix: the panels of one begin where rows_at says.
    Tensor matrix = stack_of_panels;
    matrix.shape = shape(kRows, k);
    matrix.data = const_cast<std::byte*>(rows_at(stack_of_panels, index, 0));
    for (int64_t row = 0; row < kRows; ++row) {
      dequantize(dtype, rows_at(stack_of_rows, index, row), expected.data(), k);
      dequantize_row(matrix, row, decoded.data());
      ASSERT_EQ(std::memcmp(decoded.data(), expected.data(), expected.size() * sizeof(float)), 0)
          << "matrix " << index << " row " << row;
    }
  }
}

TEST_P(Panels, OccupyWholeCacheLines) {
  const DType dtype = GetParam();
  const TypeTraits& t = traits(dtype);
  for (int64_t blocks = 1; blocks < 9; ++blocks) {
    const int64_t k = blocks * t.block_elements;
    const int64_t bytes = panel_bytes(dtype, k);
    EXPECT_EQ(bytes % 64, 0);
    EXPECT_GE(bytes, kPanelRows * row_bytes(dtype, k));
    EXPECT_LT(bytes, kPanelRows * row_bytes(dtype, k) + 64);
    EXPECT_EQ(matrix_bytes(dtype, Layout::kPanels, 1, k), bytes);
    EXPECT_EQ(matrix_bytes(dtype, Layout::kPanels, 16, k), bytes);
    EXPECT_EQ(matrix_bytes(dtype, Layout::kPanels, 17, k), 2 * bytes);
    EXPECT_EQ(matrix_bytes(dtype, Layout::kRows, 17, k), 17 * row_bytes(dtype, k));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Panels, ::testing::ValuesIn(panel_types()),
                         [](const auto& type) { return std::string(traits(type.param).name); });

TEST(PanelTypes, AreThoseOfWholeWords) {
  for (const DType dtype :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kIQ3_S, DType::kIQ3_XXS, DType::kIQ2_S,
        DType::kIQ2_XS, DType::kIQ2_XXS, DType::kIQ1_S, DType::kIQ1_M}) {
    EXPECT_FALSE(has_panels(dtype)) << traits(dtype).name;
    EXPECT_DEATH(panel_geometry(dtype), "has no panels");
  }
  EXPECT_EQ(panel_types().size(), 13U);
}

TEST(PanelRows, OfFloatsAreDecodedFromRows) {
  const float values[] = {1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F};
  const Tensor matrix{.data = const_cast<float*>(values), .shape = shape(3, 2)};
  float row[2];
  dequantize_row(matrix, 2, row);
  EXPECT_EQ(row[0], 5.0F);
  EXPECT_EQ(row[1], 6.0F);
  EXPECT_EQ(rows_stride(matrix), 8);
}

TEST(PanelRows, BeginAtPanels) {
  const Tensor matrix{.dtype = DType::kQ8_0, .layout = Layout::kPanels, .shape = shape(32, 32)};
  EXPECT_EQ(rows_stride(matrix), panel_bytes(DType::kQ8_0, 32));
  EXPECT_DEATH(rows_at(matrix, 0, 8), "row 8 is not the first of a panel");
}

}  // namespace
}  // namespace tandem::quant
