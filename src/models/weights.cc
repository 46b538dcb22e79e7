// Checked lookup of tensors, and their way into memory.
#include "models/weights.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "ops/gpu.h"
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

// Room for all tensors of the file that are placed in host memory, more than a model asks for.
int64_t memory_for(const gguf::File& file, const Placement& placement) {
  int64_t bytes = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    if (placement.of(info.name) != Device::kCpu) continue;
    bytes += ops::WeightMemory::bytes_of(info.tensor.dtype, info.tensor.shape, placement.nodes);
  }
  return bytes;
}

// A run of rows of one matrix of a stack, that fits the upload buffer.
struct Run {
  const gguf::TensorInfo* source;
  Tensor whole;
  int64_t matrix;
  int64_t row;
  int64_t rows;
};

std::vector<Run> cut_into_runs(const gguf::TensorInfo& source, const Tensor& whole,
                               int64_t buffer_bytes) {
  std::vector<Run> runs;
  const int64_t n = whole.shape.inner(1);
  const int64_t bytes_of_16 =
      quant::matrix_bytes(whole.dtype, whole.layout, quant::kPanelRows, whole.cols());
  const int64_t most = std::max<int64_t>(1, buffer_bytes / bytes_of_16) * quant::kPanelRows;
  for (int64_t matrix = 0; matrix < whole.rows() / n; ++matrix) {
    for (int64_t row = 0; row < n; row += most) {
      runs.push_back({&source, whole, matrix, row, std::min(most, n - row)});
    }
  }
  return runs;
}

}  // namespace

WeightStore::WeightStore(const gguf::File& file, const Placement& placement)
    : file_(file), placement_(placement), memory_(memory_for(file, placement), placement.nodes) {}

Tensor WeightStore::place(const gguf::TensorInfo& info, Device device) {
  file_bytes_ += static_cast<int64_t>(info.bytes);
  if (device == Device::kCpu) {
    placed_.push_back({&info, memory_.place(info.tensor.dtype, info.tensor.shape)});
    return placed_.back().tensor;
  }
  Tensor tensor = ops::WeightMemory::form_of(info.tensor.dtype, info.tensor.shape, 1);
  tensor.device = Device::kCuda;
  tensor.data = placement_.gpu->allocate(quant::stack_bytes(tensor), "weights");
  device_placed_.push_back({&info, tensor});
  return tensor;
}

std::byte* WeightStore::on_device(std::span<const std::byte> values) {
  std::byte* memory = placement_.gpu->allocate(static_cast<int64_t>(values.size()), "weights");
  placement_.gpu->upload(values, memory);
  return memory;
}

Tensor WeightStore::keep(std::vector<float> values, const Shape& shape, Device device) {
  Tensor tensor = {.dtype = DType::kF32, .shape = shape};
  if (device == Device::kCpu) {
    tensor.data = floats_.emplace_back(std::move(values)).data();
  } else {
    tensor.device = Device::kCuda;
    tensor.data = on_device(std::as_bytes(std::span(values)));
  }
  return tensor;
}

const double* WeightStore::keep(std::vector<double> values, Device device) {
  if (device == Device::kCpu) return doubles_.emplace_back(std::move(values)).data();
  return reinterpret_cast<const double*>(on_device(std::as_bytes(std::span(values))));
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
  if (!device_placed_.empty()) fill_device(ctx, on_bytes);
}

// Runs are packed into page-locked memory, then copied. The copy is a fraction of the time that
// reading a file takes.
void WeightStore::fill_device(ops::Context& ctx,
                              const std::function<void(int64_t bytes)>& on_bytes) {
  const std::span<std::byte> buffer = placement_.gpu->upload_buffer();
  int64_t done = file_bytes_;
  for (const Placed& placed : device_placed_) done -= static_cast<int64_t>(placed.source->bytes);
  for (const Placed& placed : device_placed_) {
    for (const Run& run :
         cut_into_runs(*placed.source, placed.tensor, static_cast<int64_t>(buffer.size()))) {
      Tensor part = {.data = buffer.data(),
                     .dtype = run.whole.dtype,
                     .layout = run.whole.layout,
                     .shape = shape(run.rows, run.whole.cols())};
      const int64_t row_bytes = quant::row_bytes(part.dtype, part.cols());
      const int64_t first = (run.matrix * run.whole.shape.inner(1) + run.row) * row_bytes;
      const auto read = [&](int64_t offset, std::span<std::byte> out) {
        file_.read(*run.source, static_cast<uint64_t>(first + offset), out);
      };
      ops::pack(ctx, std::array{ops::Packing{.to = part, .read = read}}, {});
      const auto* to = quant::rows_at(run.whole, run.matrix, run.row);
      placement_.gpu->upload(buffer.first(static_cast<size_t>(quant::stack_bytes(part))),
                             const_cast<std::byte*>(to));
      done += run.rows * row_bytes;
      if (on_bytes) on_bytes(done);
    }
  }
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
  return store_.place(find(name, shape), device_of(name));
}

Tensor Weights::copy_of_matrix(const std::string& name, const Shape& shape, Device device) const {
  return store_.place(find(name, shape), device);
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
  return keep(name, host_vector(name, n), tandem::shape(n));
}

Tensor Weights::keep(const std::string& name, std::vector<float> values, const Shape& shape) const {
  return store_.keep(std::move(values), shape, device_of(name));
}

std::vector<float> Weights::host_vector(const std::string& name, int64_t n) const {
  const Rows source = rows(name, tandem::shape(n));
  std::vector<float> values(static_cast<size_t>(n));
  quant::dequantize(source.matrix.dtype, source.bytes.data(), values.data(), n);
  return values;
}

Tensor Weights::optional_vector(const std::string& name, int64_t n) const {
  return has(name) ? vector(name, n) : Tensor{};
}

}  // namespace tandem::models
