// Access to a model's tensors by name with the shape that the code expects; a file that differs is
// refused.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "gguf/file.h"
#include "models/placement.h"
#include "ops/gpu.h"
#include "ops/pack.h"
#include "ops/weight_memory.h"

namespace tandem::models {

// Owns a model's weights. Vectors, and matrices that change their form, are decoded when they are
// looked up; all other matrices get their places then and are filled together, by fill().
class WeightStore {
 public:
  WeightStore(const gguf::File& file, const Placement& placement);

  const Placement& placement() const { return placement_; }

  // Values that operators read there.
  Tensor keep(std::vector<float> values, const Shape& shape, Device device);
  const double* keep(std::vector<double> values, Device device);
  // The matrix, or stack of matrices, in the layout that its type's kernels read. To be filled.
  Tensor place(const gguf::TensorInfo& info, Device device);

  // Host memory that fill() takes, and the bytes of the file that it reads.
  int64_t memory_bytes() const { return memory_.used(); }
  std::span<std::byte> memory() const { return memory_.memory(); }
  int64_t file_bytes() const { return file_bytes_; }
  // on_bytes may be empty; see ops::pack. Throws Error.
  void fill(ops::Context& ctx, const std::function<void(int64_t bytes)>& on_bytes);

 private:
  struct Placed {
    const gguf::TensorInfo* source;
    Tensor tensor;
  };

  // A copy on the GPU.
  std::byte* on_device(std::span<const std::byte> values);
  void fill_device(ops::Context& ctx, const std::function<void(int64_t bytes)>& on_bytes);

  const gguf::File& file_;
  Placement placement_;
  ops::WeightMemory memory_;
  std::vector<Placed> placed_;  // in host memory
  std::vector<Placed> device_placed_;
  int64_t file_bytes_ = 0;
  std::deque<std::vector<float>> floats_;
  std::deque<std::vector<double>> doubles_;
};

class Weights {
 public:
  Weights(const gguf::File& file, WeightStore& store) : file_(file), store_(store) {}

  // Tensors below a prefix such as "blk.3.".
  Weights below(std::string prefix) const;

  bool has(const std::string& name) const;

  // A matrix or stack of matrices in its kernels' layout, to be filled by the store, where the
  // placement has it. Error when missing, of another shape, or of a type without kernels. The
  // optional form gives an empty tensor when missing.
  Tensor matrix(const std::string& name, const Shape& shape) const;
  Tensor optional_matrix(const std::string& name, const Shape& shape) const;
  // One more of it, elsewhere.
  Tensor copy_of_matrix(const std::string& name, const Shape& shape, Device device) const;

  // A vector as float32, where operators read it. [n]
  Tensor vector(const std::string& name, int64_t n) const;
  // The same in host memory.
  std::vector<float> host_vector(const std::string& name, int64_t n) const;
  Tensor optional_vector(const std::string& name, int64_t n) const;

  // The rows of a matrix that is going to change its form.
  struct Rows {
    std::vector<std::byte> bytes;
    Tensor matrix;  // in `bytes`
  };
  Rows rows(const std::string& name, const Shape& shape) const;
  // What was made of a matrix, in its place.
  Tensor keep(const std::string& name, std::vector<float> values, const Shape& shape) const;

 private:
  const gguf::TensorInfo& find(const std::string& name, const Shape& shape) const;
  Device device_of(const std::string& name) const { return store_.placement().of(prefix_ + name); }

  const gguf::File& file_;
  WeightStore& store_;
  std::string prefix_;
};

}  // namespace tandem::models
