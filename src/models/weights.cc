// Checked lookup of tensors, and their way into memory.
#include "models/weights.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "quant/reference.h"
#include "quant/types.h"

namespace tandem::models {
namespace {

std::string to_text(const Shape& shape) {
  std::string text;
  bool leading = true;
  for (const int64_t dim : shape.dim) {
    if (leading && dim == 1) continue;
    leading = false;
    text += (text.empty() ? "" : " x ") + std::to_string(dim);
  }
  return text.empty() ? "1" : text;
}

// Room for all tensors of the file, which are more than a model asks for.
int64_t memory_for(const gguf::File& file) {
  int64_t bytes = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    bytes += ops::WeightMemory::bytes_of(info.tensor.dtype, info.tensor.shape);
  }
  return bytes;
}

}  // namespace

WeightStore::WeightStore(const gguf::File& file) : file_(file), memory_(memory_for(file)) {}

Tensor WeightStore::place(const gguf::TensorInfo& info) {
  placed_.push_back({&info, memory_.place(info.tensor.dtype, info.tensor.shape)});
  file_bytes_ += static_cast<int64_t>(info.bytes);
  return placed_.back().tensor;
}

void WeightStore::fill(ops::Context& ctx, const std::function<void(int64_t bytes)>& on_bytes) {
  // Disks are fastest front to back.
  std::sort(placed_.begin(), placed_.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.source->file_index, a.source->offset) <
           std::pair(b.source->file_index, b.source->offset);
  });
  std::vector<ops::Packing> packings;
  for (const Placed& placed : placed_) {
    const auto read = [this, source = placed.source](int64_t offset, std::span<std::byte> out) {
      file_.read(*source, static_cast<uint64_t>(offset), out);
    };
    packings.push_back({.to = placed.tensor, .read = read});
  }
  ops::pack(ctx, packings, on_bytes);
}

Weights Weights::below(std::string prefix) const {
  Weights weights = *this;
  weights.prefix_ += prefix;
  return weights;
}

bool Weights::has(const std::string& name) const {
  return file_.find_tensor(prefix_ + name) != nullptr;
}

const gguf::TensorInfo& Weights::find(const std::string& name, const Shape& shape) const {
  const gguf::TensorInfo* info = file_.find_tensor(prefix_ + name);
  if (info == nullptr) throw Error("{}: tensor {}{} is missing", file_.path(), prefix_, name);
  const Tensor& tensor = info->tensor;
  if (tensor.shape != shape) {
    throw Error("{}: tensor {}{} is {}, its metadata imply {}", file_.path(), prefix_, name,
                to_text(tensor.shape), to_text(shape));
  }
  if (!quant::traits(tensor.dtype).supported) {
    throw Error("{}: tensor {}{} has type {}, which has no kernels", file_.path(), prefix_, name,
                quant::traits(tensor.dtype).name);
  }
  return *info;
}

Tensor Weights::matrix(const std::string& name, const Shape& shape) const {
  return store_.place(find(name, shape));
}

Tensor Weights::optional_matrix(const std::string& name, const Shape& shape) const {
  return has(name) ? matrix(name, shape) : Tensor{};
}

Weights::Rows Weights::rows(const std::string& name, const Shape& shape) const {
  const gguf::TensorInfo& info = find(name, shape);
  Rows rows{std::vector<std::byte>(info.bytes), info.tensor};
  file_.read(info, 0, rows.bytes);
  rows.matrix.data = rows.bytes.data();
  return rows;
}

Tensor Weights::vector(const std::string& name, int64_t n) const {
  const Rows source = rows(name, tandem::shape(n));
  float* values = store_.allocate(n);
  quant::dequantize(source.matrix.dtype, source.bytes.data(), values, n);
  return {.data = values, .dtype = DType::kF32, .device = Device::kCpu, .shape = tandem::shape(n)};
}

Tensor Weights::optional_vector(const std::string& name, int64_t n) const {
  return has(name) ? vector(name, n) : Tensor{};
}

}  // namespace tandem::models
