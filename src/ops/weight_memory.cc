// One matrix after the other, each at a cache line of its own, or at a huge page where it lies in
// parts.
#include "ops/weight_memory.h"

#include "quant/panels.h"
#include "quant/parts.h"

namespace tandem::ops {

Tensor WeightMemory::form_of(DType dtype, const Shape& shape, int nodes) {
  const bool panels = quant::has_panels(dtype);
  Tensor form = {
      .dtype = dtype, .layout = panels ? Layout::kPanels : Layout::kRows, .shape = shape};
  if (panels) form.parts = quant::parts_for(quant::stack_bytes(form), nodes);
  return form;
}

namespace {

int64_t alignment_of(const Tensor& form) { return form.parts > 1 ? quant::kPartAlignment : 64; }

int64_t aligned(int64_t bytes, int64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

int64_t WeightMemory::bytes_of(DType dtype, const Shape& shape, int nodes) {
  const Tensor form = form_of(dtype, shape, nodes);
  const int64_t alignment = alignment_of(form);
  // Before a stack in parts there may be a gap.
  return aligned(quant::stack_bytes(form), alignment) + (form.parts > 1 ? alignment : 0);
}

Tensor WeightMemory::place(DType dtype, const Shape& shape) {
  Tensor tensor = form_of(dtype, shape, nodes_);
  const int64_t alignment = alignment_of(tensor);
  const int64_t begin = aligned(used_, alignment);
  used_ = begin + aligned(quant::stack_bytes(tensor), alignment);
  TANDEM_CHECK(used_ <= arena_.bytes(), "weights of {} bytes, {} reserved", used_, arena_.bytes());
  tensor.data = arena_.data() + begin;
  return tensor;
}

}  // namespace tandem::ops
