// Times copies; tensor cores are counted.
#include "ops/gpu_speeds.h"

#include <algorithm>

#include <cuda_runtime_api.h>

#include "base/error.h"
#include "platform/cuda/error.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "platform/gpu.h"

namespace tandem::ops {
namespace {

using platform::cuda::DeviceMemory;
using platform::cuda::Event;
using platform::cuda::PinnedMemory;
using platform::cuda::Stream;

// More than second-level caches hold, little beside the memory of any card.
constexpr size_t kBytes = size_t{256} << 20;
constexpr size_t kUploadBytes = size_t{64} << 20;
constexpr int kPasses = 5;

// Seconds of the quickest pass of a copy.
double copy_seconds(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Stream stream;
  const Event begin(Event::Timing::kOn), end(Event::Timing::kOn);
  float best = 1e9F;
  for (int i = 0; i < kPasses; ++i) {
    begin.record(stream.get());
    TANDEM_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, kind, stream.get()));
    end.record(stream.get());
    end.synchronize();
    best = std::min(best, end.since(begin));
  }
  return best * 1e-3;
}

// Dense bf16 multiply-adds with float32 sums of one multiprocessor in a clock (NVIDIA's white
// papers of the architectures).
double macs_per_clock(int compute) {
  if (compute == 80) return 1024.0;
  if (compute == 90) return 2048.0;
  if (compute >= 100 && compute < 120) return 4096.0;
  return 256.0;  // 8.6, 8.9, 12.0
}

}  // namespace

GpuSpeeds measure_gpu_speeds() {
  const platform::Gpus gpus = platform::find_gpus();
  if (gpus.list.empty()) throw Error("{}", gpus.missing);
  const platform::Gpu& gpu = gpus.list.front();
  const DeviceMemory from(kBytes), to(kBytes);
  const PinnedMemory host(kUploadBytes);
  GpuSpeeds speeds;
  speeds.memory = 2.0 * static_cast<double>(kBytes) /
                  copy_seconds(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice);
  speeds.upload = static_cast<double>(kUploadBytes) /
                  copy_seconds(to.data(), host.data(), kUploadBytes, cudaMemcpyHostToDevice);
  int kilohertz = 0;
  TANDEM_CUDA_CALL(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, 0));
  speeds.bf16 = 2.0 * macs_per_clock(gpu.compute) * gpu.multiprocessors *
                static_cast<double>(kilohertz) * 1e3;
  return speeds;
}

}  // namespace tandem::ops
