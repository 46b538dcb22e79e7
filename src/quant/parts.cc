// Shares of rows in whole panels.
#include "quant/parts.h"

#include <algorithm>

#include "quant/panels.h"

namespace tandem::quant {

int64_t rows_per_part(int64_t n, int parts) {
  const int64_t panels = (n + kPanelRows - 1) / kPanelRows;
  return (panels + parts - 1) / parts * kPanelRows;
}

RowRange rows_of_part(int64_t n, int parts, int part) {
  const int64_t share = rows_per_part(n, parts);
  return {std::min(n, part * share), std::min(n, (part + 1) * share)};
}

int64_t part_stride(const Tensor& stack) {
  const int64_t n = stack.shape.inner(1);
  const int64_t share = stack.parts > 1 ? rows_per_part(n, stack.parts) : n;
  const int64_t bytes =
      stack.rows() / n * matrix_bytes(stack.dtype, stack.layout, share, stack.cols());
  if (stack.parts == 1) return bytes;
  return (bytes + kPartAlignment - 1) / kPartAlignment * kPartAlignment;
}

int64_t stack_bytes(const Tensor& stack) { return stack.parts * part_stride(stack); }

}  // namespace tandem::quant
