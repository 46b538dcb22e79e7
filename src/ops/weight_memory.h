// The memory of a model's matrices, each in the layout that its type's kernels read. Where a matrix
// lies is decided here; which of its bytes are where, by quant/panels.h.
#pragma once

#include "base/tensor.h"
#include "platform/reservation.h"

namespace tandem::ops {

class WeightMemory {
 public:
  // Addresses for `bytes` of matrices. None of it takes memory before it is filled (ops/pack.h).
  explicit WeightMemory(int64_t bytes) : arena_(bytes) {}

  // What place() takes for a matrix [n, k] or a stack [E, n, k].
  static int64_t bytes_of(DType dtype, const Shape& shape);
  Tensor place(DType dtype, const Shape& shape);

  int64_t used() const { return used_; }

 private:
  platform::Reservation arena_;
  int64_t used_ = 0;
};

}  // namespace tandem::ops
