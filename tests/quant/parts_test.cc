// Every row of a stack lies once in the memory of one part, wherever the borders fall.
#include "quant/parts.h"

#include <cstring>
#include <set>

#include <gtest/gtest.h>

#include "tests/quant/random_stack.h"

namespace tandem::quant {
namespace {

TEST(Parts, EveryRowBelongsToOnePart) {
  for (const int64_t n : {1, 15, 16, 17, 96, 100, 1408, 102400}) {
    for (const int parts : {1, 2, 3, 4, 8}) {
      int64_t next = 0;
      for (int part = 0; part < parts; ++part) {
        const RowRange rows = rows_of_part(n, parts, part);
        EXPECT_LE(rows.begin, rows.end);
        if (rows.begin == rows.end) continue;
        EXPECT_EQ(rows.begin, next) << n << " rows, part " << part;
        EXPECT_EQ(rows.begin % kPanelRows, 0);
        EXPECT_EQ(rows.begin / rows_per_part(n, parts), part);
        next = rows.end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

TEST(Parts, RowsLieInTheirPartAndApart) {
  for (const DType type : {DType::kQ4_K, DType::kQ5_0, DType::kF16}) {
    for (const int parts : {1, 2, 3}) {
      testing::RandomStack stack(type, 3, 72, 256, 1);
      const Tensor tensor = stack.in_parts(parts);
      const auto* data = static_cast<const std::byte*>(tensor.data);
      const int64_t stride = part_stride(tensor);
      EXPECT_EQ(stride % (parts > 1 ? kPartAlignment : 1), 0);
      EXPECT_EQ(stack_bytes(tensor), stride * parts);
      std::set<int64_t> offsets;
      for (int64_t matrix = 0; matrix < 3; ++matrix) {
        for (int part = 0; part < parts; ++part) {
          const RowRange rows = rows_of_part(72, parts, part);
          for (int64_t row = rows.begin; row < rows.end; row += kPanelRows) {
            const std::byte* at = rows_at(tensor, matrix, row);
            EXPECT_TRUE(offsets.insert(at - data).second);
            EXPECT_EQ((at - data) / stride, part);
            EXPECT_EQ(
                at - rows_at(tensor, matrix, rows.begin),
                (row - rows.begin) / (type == DType::kF16 ? 1 : kPanelRows) * rows_stride(tensor))
                << "contiguous within the part";
          }
        }
      }
    }
  }
}

TEST(Parts, AnEmbeddingRowIsFoundInItsPart) {
  testing::RandomStack table(DType::kQ6_K, 1, 50, 256, 2);
  std::vector<float> expected(256), row(256);
  for (const int parts : {1, 2, 3}) {
    const Tensor tensor = table.in_parts(parts);
    for (int64_t i = 0; i < 50; ++i) {
      dequantize(DType::kQ6_K, table.row(0, i), expected.data(), 256);
      dequantize_row(tensor, i, row.data());
      EXPECT_EQ(row, expected);
    }
  }
}

TEST(Parts, SmallStacksStayWhole) {
  EXPECT_EQ(parts_for(kLeastBytesToSplit - 1, 2), 1);
  EXPECT_EQ(parts_for(kLeastBytesToSplit, 2), 2);
  EXPECT_EQ(parts_for(int64_t{1} << 40, 1), 1);
}

}  // namespace
}  // namespace tandem::quant
