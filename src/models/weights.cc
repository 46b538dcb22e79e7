// Checked lookup of tensors.
#include "models/weights.h"

#include <algorithm>

#include "base/error.h"
#include "quant/panels.h"
#include "quant/parts.h"
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

}  // namespace

Tensor WeightStore::packed(const Tensor& rows) {
  if (!quant::has_panels(rows.dtype)) return rows;
  const int64_t n = rows.shape.inner(1), k = rows.cols(), count = rows.rows() / n;
  Tensor tensor = rows;
  tensor.layout = Layout::kPanels;
  panels_.emplace_back(new std::byte[static_cast<size_t>(quant::stack_bytes(tensor))]);
  tensor.data = panels_.back().get();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t row = 0; row < n; row += quant::kPanelRows) {
      quant::pack_panel(rows.dtype, quant::rows_at(rows, i, row), quant::rows_stride(rows),
                        static_cast<int>(std::min<int64_t>(quant::kPanelRows, n - row)), k,
                        const_cast<std::byte*>(quant::rows_at(tensor, i, row)));
    }
  }
  return tensor;
}

Weights Weights::below(std::string prefix) const {
  Weights weights = *this;
  weights.prefix_ += prefix;
  return weights;
}

bool Weights::has(const std::string& name) const {
  return file_.find_tensor(prefix_ + name) != nullptr;
}

Tensor Weights::find(const std::string& name, const Shape& shape) const {
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
  return tensor;
}

Tensor Weights::matrix(const std::string& name, const Shape& shape) const {
  return store_.packed(find(name, shape));
}

Tensor Weights::optional_matrix(const std::string& name, const Shape& shape) const {
  return has(name) ? matrix(name, shape) : Tensor{};
}

Tensor Weights::vector(const std::string& name, int64_t n) const {
  Tensor tensor = find(name, tandem::shape(n));
  if (tensor.dtype == DType::kF32) return tensor;
  float* values = store_.allocate(n);
  quant::dequantize(tensor.dtype, tensor.data, values, n);
  return {.data = values, .dtype = DType::kF32, .device = Device::kCpu, .shape = tensor.shape};
}

Tensor Weights::optional_vector(const std::string& name, int64_t n) const {
  return has(name) ? vector(name, n) : Tensor{};
}

}  // namespace tandem::models
