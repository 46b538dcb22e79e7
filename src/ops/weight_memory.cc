// One matrix after the other, each at a cache line of its own.
#include "ops/weight_memory.h"

#include "quant/panels.h"

namespace tandem::ops {
namespace {

Layout layout_of(DType dtype) { return quant::has_panels(dtype) ? Layout::kPanels : Layout::kRows; }

}  // namespace

int64_t WeightMemory::bytes_of(DType dtype, const Shape& shape) {
  const int64_t n = shape.inner(1), k = shape.inner(0);
  const int64_t count = shape.elements() / (n * k);
  const int64_t bytes = count * quant::matrix_bytes(dtype, layout_of(dtype), n, k);
  return (bytes + 63) / 64 * 64;
}

Tensor WeightMemory::place(DType dtype, const Shape& shape) {
  std::byte* data = arena_.data() + used_;
  used_ += bytes_of(dtype, shape);
  TANDEM_CHECK(used_ <= arena_.bytes(), "weights of {} bytes, {} reserved", used_, arena_.bytes());
  return {.data = data, .dtype = dtype, .layout = layout_of(dtype), .shape = shape};
}

}  // namespace tandem::ops
