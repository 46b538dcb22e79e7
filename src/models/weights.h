// Access to a model's tensors by name with the shape that the code expects; a file that differs is
// refused.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "gguf/file.h"

namespace tandem::models {

// Owns what had to be decoded at load: vectors that are not float32 in the file, matrices that
// change their form.
class WeightStore {
 public:
  float* allocate(int64_t count) {
    return buffers_.emplace_back(static_cast<size_t>(count)).data();
  }
  // The same stack of matrices in the layout that its type's kernels read.
  Tensor packed(const Tensor& rows);

 private:
  std::deque<std::vector<float>> buffers_;
  std::vector<std::unique_ptr<std::byte[]>> panels_;
};

class Weights {
 public:
  Weights(const gguf::File& file, WeightStore& store) : file_(file), store_(store) {}

  // Tensors below a prefix such as "blk.3.".
  Weights below(std::string prefix) const;

  bool has(const std::string& name) const;

  // A matrix or stack of matrices in its kernels' layout. Error when missing, of another shape, or
  // of a type without kernels. The optional form gives an empty tensor when missing.
  Tensor matrix(const std::string& name, const Shape& shape) const;
  Tensor optional_matrix(const std::string& name, const Shape& shape) const;

  // A vector as float32. [n]
  Tensor vector(const std::string& name, int64_t n) const;
  Tensor optional_vector(const std::string& name, int64_t n) const;

  WeightStore& store() const { return store_; }

 private:
  Tensor find(const std::string& name, const Shape& shape) const;

  const gguf::File& file_;
  WeightStore& store_;
  std::string prefix_;
};

}  // namespace tandem::models
