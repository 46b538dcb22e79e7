// A stack in parts, one for each NUMA node, becomes one of whole matrices: a copy of as many pieces
// as there are matrices for each part.
#include "ops/cuda/expert_stream.h"

#include "base/check.h"
#include "ops/context.h"
#include "platform/cuda/error.h"
#include "quant/panels.h"
#include "quant/parts.h"

namespace tandem::ops {
namespace {

Tensor whole(const Tensor& stack) {
  Tensor form = stack;
  form.device = Device::kCuda;
  form.parts = 1;
  form.data = nullptr;
  return form;
}

int64_t aligned_bytes(const Tensor& stack) {
  const auto bytes = static_cast<size_t>(quant::stack_bytes(whole(stack)));
  return static_cast<int64_t>(Workspace::aligned(bytes));
}

void copy(const Tensor& stack, std::byte* to, cudaStream_t stream) {
  const auto* from = static_cast<const std::byte*>(stack.data);
  if (stack.parts == 1) {
    TANDEM_CUDA_CALL(cudaMemcpyAsync(to, from, static_cast<size_t>(quant::stack_bytes(stack)),
                                     cudaMemcpyHostToDevice, stream));
    return;
  }
  const int64_t n = stack.shape.inner(1), matrices = stack.rows() / n;
  const auto bytes_of = [&](int64_t rows) {
    return static_cast<size_t>(quant::matrix_bytes(stack.dtype, stack.layout, rows, stack.cols()));
  };
  const size_t share = bytes_of(quant::rows_per_part(n, stack.parts));
  for (int part = 0; part < stack.parts; ++part) {
    const quant::RowRange rows = quant::rows_of_part(n, stack.parts, part);
    if (rows.begin == rows.end) continue;
    TANDEM_CUDA_CALL(cudaMemcpy2DAsync(
        to + bytes_of(rows.begin), bytes_of(n), from + part * quant::part_stride(stack), share,
        bytes_of(rows.end - rows.begin), static_cast<size_t>(matrices), cudaMemcpyHostToDevice,
        stream));
  }
}

}  // namespace

ExpertStream::ExpertStream(int64_t bytes) {
  for (Buffer& buffer : buffers_) {
    buffer.memory = platform::cuda::DeviceMemory(static_cast<size_t>(bytes));
  }
}

ExpertStream::Layer ExpertStream::begin(const GpuExperts& e, cudaStream_t stream) {
  const Buffer& buffer = buffers_[next_ % 2];
  Layer layer = {whole(*e.gate), whole(*e.up), whole(*e.down)};
  // A free event that was never recorded is not waited for.
  TANDEM_CUDA_CALL(cudaStreamWaitEvent(copies_.get(), buffer.free.get()));
  std::byte* to = buffer.memory.data();
  const Tensor* sources[] = {e.gate, e.up, e.down};
  Tensor* targets[] = {&layer.gate, &layer.up, &layer.down};
  for (int i = 0; i < 3; ++i) {
    targets[i]->data = to;
    copy(*sources[i], to, copies_.get());
    to += aligned_bytes(*sources[i]);
  }
  TANDEM_CHECK(to <= buffer.memory.data() + buffer.memory.bytes(),
               "experts of {} bytes, {} reserved", to - buffer.memory.data(),
               buffer.memory.bytes());
  buffer.ready.record(copies_.get());
  TANDEM_CUDA_CALL(cudaStreamWaitEvent(stream, buffer.ready.get()));
  return layer;
}

void ExpertStream::end(cudaStream_t stream) { buffers_[next_++ % 2].free.record(stream); }

}  // namespace tandem::ops
