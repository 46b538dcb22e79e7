// Matrices in panels (quant/panel_layout.h draws one): where rows are in a stack of matrices, and
// packing and unpacking word by word.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"
#include "quant/panel_layout.h"

namespace tandem::quant {

// Bytes of a matrix [n, k] in a layout.
int64_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k);
// Where row `row` (in panels: a multiple of 16) of matrix `index` of a stack [E, n, k] begins. The
// rows after it lie contiguous up to the end of its part (quant/parts.h).
const std::byte* rows_at(const Tensor& stack, int64_t index, int64_t row);
// Bytes from a panel (or, in rows, from a row) to the next.
int64_t rows_stride(const Tensor& stack);
// Row `row` of a matrix [n, k] as floats.
void dequantize_row(const Tensor& matrix, int64_t row, float* out);

// 1 to 16 rows of k elements, row_stride bytes apart -> a panel. The scalar definition; fast ones
// are in kernels/cpu.
void pack_panel(DType dtype, const std::byte* rows, int64_t row_stride, int count, int64_t k,
                std::byte* panel);
// Row 0 .. 15 of a panel -> the file's row.
void unpack_row(DType dtype, const std::byte* panel, int row, int64_t k, std::byte* out);

}  // namespace tandem::quant
