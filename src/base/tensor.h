// Tensor: a non-owning, typed, contiguous view of memory on a device. Rows of quantised types are
// whole blocks.
#pragma once

#include "base/check.h"
#include "base/dtype.h"
#include "base/shape.h"

namespace tandem {

enum class Device : uint8_t { kCpu, kCuda };

// How a matrix lies in memory.
enum class Layout : uint8_t {
  kRows,    // rows one after the other, as in the file
  kPanels,  // 16 rows interleaved (quant/panels.h)
};

struct Tensor {
  void* data = nullptr;  // weights are never written through it
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  Layout layout = Layout::kRows;
  Shape shape;
  int parts = 1;  // a stack of matrices may lie in parts, one for each NUMA node (quant/parts.h)

  explicit operator bool() const { return data != nullptr; }
  // Number of rows: all dimensions but the contiguous one.
  int64_t rows() const { return shape.elements() / shape.inner(0); }
  int64_t cols() const { return shape.inner(0); }

  float* f32() const {
    TANDEM_CHECK(dtype == DType::kF32, "tensor has dtype {}", static_cast<int>(dtype));
    return static_cast<float*>(data);
  }
};

}  // namespace tandem
