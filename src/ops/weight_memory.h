// The memory of a model's matrices, each in the layout that its type's kernels read, large stacks
// in a part for each NUMA node. Where a matrix lies is decided here; which of its bytes are where,
// by quant/panels.h and quant/parts.h.
#pragma once

#include <span>

#include "base/tensor.h"
#include "platform/reservation.h"

namespace tandem::ops {

class WeightMemory {
 public:
  // Addresses for `bytes` of matrices on a machine of `nodes` NUMA nodes. None of it takes memory
  // before it is filled (ops/pack.h).
  WeightMemory(int64_t bytes, int nodes) : arena_(bytes), nodes_(nodes) {}

  // A matrix [n, k] or a stack [E, n, k] in the layout that its type's kernels read, without data.
  static Tensor form_of(DType dtype, const Shape& shape, int nodes);
  // What place() takes at most for a matrix [n, k] or a stack [E, n, k].
  static int64_t bytes_of(DType dtype, const Shape& shape, int nodes);
  Tensor place(DType dtype, const Shape& shape);

  int64_t used() const { return used_; }
  std::span<std::byte> memory() const { return {arena_.data(), static_cast<size_t>(used_)}; }

 private:
  platform::Reservation arena_;
  int nodes_;
  int64_t used_ = 0;
};

}  // namespace tandem::ops
