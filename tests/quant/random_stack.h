// A stack of random matrices as the file has it, and in the layout and parts that kernels read.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "quant/panels.h"
#include "quant/parts.h"
#include "quant/reference.h"
#include "tests/quant/random_weights.h"

namespace tandem::testing {

class RandomStack {
 public:
  RandomStack(DType type, int64_t matrices, int64_t n, int64_t k, uint32_t seed)
      : type_(type),
        n_(n),
        k_(k),
        bytes_(quant::row_bytes(type, k)),
        rows_(random_weights(type, matrices * n, k, bytes_, seed)),
        shape_(tandem::shape(matrices, n, k)) {}

  // Row `row` of a matrix as in the file.
  const std::byte* row(int64_t matrix, int64_t row) const {
    return rows_.data() + (matrix * n_ + row) * bytes_;
  }
  // Its product with activations in the type's format: the definition.
  float dot(int64_t matrix, int64_t row_index, const std::byte* activations) const {
    return quant::dot(type_, row(matrix, row_index), activations, k_);
  }
  DType type() const { return type_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }

  // In the kernels' layout; valid until the next call.
  Tensor in_parts(int parts) {
    Tensor tensor = {.dtype = type_, .shape = shape_, .parts = parts};
    if (quant::has_panels(type_)) tensor.layout = Layout::kPanels;
    const auto bytes = static_cast<size_t>(quant::stack_bytes(tensor));
    storage_.reset(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
    tensor.data = storage_.get();
    for (int64_t matrix = 0; matrix < shape_.inner(2); ++matrix) {
      for (int64_t i = 0; i < n_; i += quant::kPanelRows) {
        const int64_t count = std::min<int64_t>(quant::kPanelRows, n_ - i);
        auto* to = const_cast<std::byte*>(quant::rows_at(tensor, matrix, i));
        if (tensor.layout == Layout::kPanels) {
          quant::pack_panel(type_, row(matrix, i), bytes_, static_cast<int>(count), k_, to);
        } else {
          std::memcpy(to, row(matrix, i), static_cast<size_t>(count * bytes_));
        }
      }
    }
    return tensor;
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  DType type_;
  int64_t n_, k_, bytes_;
  std::vector<std::byte> rows_;
  Shape shape_;
  std::unique_ptr<std::byte, Free> storage_;
};

// One row of activations for weights of the type, by the definition.
inline std::vector<std::byte> activations_for(DType type, const float* x, int64_t k) {
  const quant::ActivationFormat format = quant::traits(type).activation;
  std::vector<std::byte> row(static_cast<size_t>(quant::activation_bytes(format, k)));
  quant::quantize_activations(format, x, row.data(), k);
  return row;
}

}  // namespace tandem::testing
