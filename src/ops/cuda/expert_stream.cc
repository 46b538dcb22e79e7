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

// `count` matrices of the stack, from `first` on, to their places in `to`.
void copy(const Tensor& stack, const Tensor& to, int first, int count, cudaStream_t stream) {
  const int64_t n = stack.shape.inner(1);
  const auto bytes_of = [&](int64_t rows) {
    return static_cast<size_t>(quant::matrix_bytes(stack.dtype, stack.layout, rows, stack.cols()));
  };
  const size_t share = bytes_of(quant::rows_per_part(n, stack.parts));
  for (int part = 0; part < stack.parts; ++part) {
    const quant::RowRange rows = quant::rows_of_part(n, stack.parts, part);
    if (rows.begin == rows.end) continue;
    const std::byte* from = quant::rows_at(stack, first, rows.begin);
    auto* target = const_cast<std::byte*>(quant::rows_at(to, first, rows.begin));
    if (stack.parts == 1) {
      TANDEM_CUDA_CALL(cudaMemcpyAsync(target, from, bytes_of(n) * static_cast<size_t>(count),
                                       cudaMemcpyHostToDevice, stream));
      return;
    }
    TANDEM_CUDA_CALL(cudaMemcpy2DAsync(target, bytes_of(n), from, share,
                                       bytes_of(rows.end - rows.begin), static_cast<size_t>(count),
                                       cudaMemcpyHostToDevice, stream));
  }
}

void copy_slot(const Tensor& slots, int slot, const Tensor& to, int expert, cudaStream_t stream) {
  const int64_t bytes = quant::matrix_bytes(to.dtype, to.layout, to.shape.inner(1), to.cols());
  TANDEM_CUDA_CALL(cudaMemcpyAsync(const_cast<std::byte*>(quant::rows_at(to, expert, 0)),
                                   quant::rows_at(slots, slot, 0), static_cast<size_t>(bytes),
                                   cudaMemcpyDeviceToDevice, stream));
}

// Experts that have a slot come out of it, runs of others over the bus.
void copy_stack(const Tensor& stack, const Tensor& slots, std::span<const int32_t> slot_of,
                const Tensor& to, cudaStream_t stream) {
  const auto experts = static_cast<int>(stack.shape.inner(2));
  const auto is_hot = [&](int e) {
    return !slot_of.empty() && slot_of[static_cast<size_t>(e)] >= 0;
  };
  for (int e = 0; e < experts;) {
    if (is_hot(e)) {
      copy_slot(slots, slot_of[static_cast<size_t>(e)], to, e, stream);
      ++e;
      continue;
    }
    int end = e + 1;
    while (end < experts && !is_hot(end)) ++end;
    copy(stack, to, e, end - e, stream);
    e = end;
  }
}

}  // namespace

ExpertStream::ExpertStream(int64_t bytes) {
  for (Buffer& buffer : buffers_) {
    buffer.memory = platform::cuda::DeviceMemory(static_cast<size_t>(bytes));
  }
}

ExpertStream::Layer ExpertStream::begin(const GpuExperts& e, const HotLayer& hot,
                                        cudaStream_t stream) {
  const Buffer& buffer = buffers_[next_ % 2];
  Layer layer = {whole(*e.gate), whole(*e.up), whole(*e.down)};
  // A free event that was never recorded is not waited for.
  TANDEM_CUDA_CALL(cudaStreamWaitEvent(copies_.get(), buffer.free.get()));
  std::byte* to = buffer.memory.data();
  const Tensor* sources[] = {e.gate, e.up, e.down};
  const Tensor* slots[] = {&hot.gate, &hot.up, &hot.down};
  Tensor* targets[] = {&layer.gate, &layer.up, &layer.down};
  for (int i = 0; i < 3; ++i) {
    targets[i]->data = to;
    copy_stack(*sources[i], *slots[i], hot.host_slot_of, *targets[i], copies_.get());
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
