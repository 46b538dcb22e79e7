// Routed experts that the GPU runs out of host memory: a layer's stacks are copied over the bus to
// one of two buffers, beside what the step's stream does with the other. Nothing here waits on the
// host, which runs ahead; so the next layer's copy begins as soon as its buffer is free.
#pragma once

#include <cstdint>

#include "base/tensor.h"
#include "ops/cuda/hot_slots.h"
#include "ops/gpu.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"

namespace tandem::ops {

class ExpertStream {
 public:
  // bytes: of one layer's stacks, each stack rounded up to 256; both buffers are taken here.
  explicit ExpertStream(int64_t bytes);

  struct Layer {
    Tensor gate, up, down;  // on the device, one part each
  };
  // Has `stream` wait for the copy of the layer's stacks; valid for what is enqueued on it before
  // end().
  // hot: of the layer. What is in slots need not come over the bus.
  Layer begin(const GpuExperts& experts, const HotLayer& hot, cudaStream_t stream);
  void end(cudaStream_t stream);

 private:
  struct Buffer {
    platform::cuda::DeviceMemory memory;
    platform::cuda::Event free, ready;
  };

  platform::cuda::Stream copies_;
  Buffer buffers_[2];
  size_t next_ = 0;
};

}  // namespace tandem::ops
