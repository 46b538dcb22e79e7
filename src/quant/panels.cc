// Panel geometry, and packing and unpacking word by word.
#include "quant/panels.h"

#include <cstring>

#include "base/check.h"
#include "quant/parts.h"
#include "quant/reference.h"
#include "quant/types.h"

namespace tandem::quant {

bool has_panels(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kIQ4_NL:
    case DType::kMXFP4:
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kIQ4_XS:
      return true;
    default:
      return false;
  }
}

PanelGeometry panel_geometry(DType dtype) {
  TANDEM_CHECK(has_panels(dtype), "{} has no panels", traits(dtype).name);
  const int bytes = traits(dtype).block_bytes;
  // d stands at the end of Q3_K and Q6_K, at the start of all others.
  return {.words = bytes / 4,
          .rest = bytes % 4,
          .rest_first = dtype != DType::kQ3_K && dtype != DType::kQ6_K};
}

int64_t panel_bytes(DType dtype, int64_t k) {
  const PanelGeometry g = panel_geometry(dtype);
  const int64_t blocks = k / traits(dtype).block_elements, group = panel_group(g.rest);
  return blocks * g.words * 64 + (g.rest == 0 ? 0 : (blocks + group - 1) / group * 64);
}

int64_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k) {
  if (layout == Layout::kRows) return n * row_bytes(dtype, k);
  return (n + kPanelRows - 1) / kPanelRows * panel_bytes(dtype, k);
}

const std::byte* rows_at(const Tensor& stack, int64_t index, int64_t row) {
  const int64_t k = stack.cols();
  const auto* data = static_cast<const std::byte*>(stack.data);
  if (stack.parts > 1) {
    // The part holds its share of each matrix, as a stack of its own.
    const int64_t share = rows_per_part(stack.shape.inner(1), stack.parts);
    data += row / share * part_stride(stack) +
            index * matrix_bytes(stack.dtype, stack.layout, share, k);
    row %= share;
  } else {
    data += index * matrix_bytes(stack.dtype, stack.layout, stack.shape.inner(1), k);
  }
  if (stack.layout == Layout::kRows) return data + row * row_bytes(stack.dtype, k);
  TANDEM_CHECK(row % kPanelRows == 0, "row {} is not the first of a panel", row);
  return data + row / kPanelRows * panel_bytes(stack.dtype, k);
}

namespace {

// Calls move(offset in the file's block, offset in the panel, bytes) for every part of block b of
// row `row` of a panel whose rows have `blocks`.
template <typename Move>
void for_each_part(DType dtype, const PanelGeometry& g, int64_t row, int64_t b, int64_t blocks,
                   const Move& move) {
  const int64_t first_word = g.rest_first ? g.rest : 0;
  const int64_t lines = panel_words_at(g.words, g.rest, b);
  for (int w = 0; w < g.words; ++w) {
    move(first_word + 4 * w, lines + (panel_word(dtype, w) * kPanelRows + row) * 4, 4);
  }
  if (g.rest > 0) {
    move(g.rest_first ? 0 : 4 * g.words, panel_rest_at(g.words, g.rest, b, blocks) + row * g.rest,
         g.rest);
  }
}

// Block b of a row of a panel -> the file's block.
void unpack_block(DType dtype, const PanelGeometry& g, const std::byte* panel, int64_t row,
                  int64_t b, int64_t blocks, std::byte* out) {
  for_each_part(dtype, g, row, b, blocks, [&](int64_t in_block, int64_t in_panel, int bytes) {
    std::memcpy(out + in_block, panel + in_panel, static_cast<size_t>(bytes));
  });
}

}  // namespace

void pack_panel(DType dtype, const std::byte* rows, int64_t row_stride, int count, int64_t k,
                std::byte* panel) {
  std::memset(panel, 0, static_cast<size_t>(panel_bytes(dtype, k)));
  const TypeTraits& t = traits(dtype);
  const PanelGeometry g = panel_geometry(dtype);
  const int64_t blocks = k / t.block_elements;
  for (int r = 0; r < count; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      const std::byte* block = rows + r * row_stride + b * t.block_bytes;
      for_each_part(dtype, g, r, b, blocks, [&](int64_t in_block, int64_t in_panel, int bytes) {
        std::memcpy(panel + in_panel, block + in_block, static_cast<size_t>(bytes));
      });
    }
  }
}

void unpack_row(DType dtype, const std::byte* panel, int row, int64_t k, std::byte* out) {
  const TypeTraits& t = traits(dtype);
  const PanelGeometry g = panel_geometry(dtype);
  const int64_t blocks = k / t.block_elements;
  for (int64_t b = 0; b < blocks; ++b) {
    unpack_block(dtype, g, panel, row, b, blocks, out + b * t.block_bytes);
  }
}

int64_t rows_stride(const Tensor& stack) {
  const int64_t k = stack.cols();
  return stack.layout == Layout::kRows ? row_bytes(stack.dtype, k) : panel_bytes(stack.dtype, k);
}

void dequantize_row(const Tensor& matrix, int64_t row, float* out) {
  const int64_t k = matrix.cols();
  const std::byte* rows = rows_at(matrix, 0, row - row % kPanelRows);
  if (matrix.layout == Layout::kRows) {
    dequantize(matrix.dtype, rows + row % kPanelRows * row_bytes(matrix.dtype, k), out, k);
    return;
  }
  // Block by block, so that the row needs no memory of its own.
  const TypeTraits& t = traits(matrix.dtype);
  const PanelGeometry g = panel_geometry(matrix.dtype);
  const int64_t blocks = k / t.block_elements;
  for (int64_t b = 0; b < blocks; ++b) {
    std::byte block[256];
    unpack_block(matrix.dtype, g, rows, row % kPanelRows, b, blocks, block);
    dequantize(matrix.dtype, block, out + b * t.block_elements, t.block_elements);
  }
}

}  // namespace tandem::quant
