// Flags have system scope, because the other side is the host.
#include <algorithm>

#include <cuda/atomic>

#include "kernels/cuda/hand_off.h"
#include "kernels/cuda/launch.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 512;
// Each holds 8 KB of accesses over the bus in flight: together more than its rate times its
// latency (55 GB/s, some 2 us, not measured), and few enough to wait on one flag.
constexpr int kMostBlocks = 32;

using Flag = ::cuda::atomic_ref<uint32_t, ::cuda::thread_scope_system>;
using ReadFlag = ::cuda::atomic_ref<const uint32_t, ::cuda::thread_scope_system>;
using Counter = ::cuda::atomic_ref<uint32_t, ::cuda::thread_scope_device>;

unsigned blocks_for(int64_t values) {
  const int64_t quads = (values + 3) / 4;
  return static_cast<unsigned>(
      std::clamp<int64_t>((quads + kThreads - 1) / kThreads, 1, kMostBlocks));
}

// Calls quad(i) for groups of four values and single(i) for the up to three after them.
template <typename Quad, typename Single>
__device__ void for_each_value(int64_t values, const Quad& quad, const Single& single) {
  const int64_t first = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t step = gridDim.x * int64_t{kThreads};
  for (int64_t i = first; i < values / 4; i += step) quad(i);
  for (int64_t i = values / 4 * 4 + first; i < values; i += step) single(i);
}

__device__ uint64_t nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__global__ void send_kernel(SendParams p) {
  begin();
  for_each_value(
      p.values,
      [&](int64_t i) {
        reinterpret_cast<float4*>(p.host_x)[i] = reinterpret_cast<const float4*>(p.x)[i];
      },
      [&](int64_t i) { p.host_x[i] = p.x[i]; });
  const int64_t step = gridDim.x * int64_t{kThreads};
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < p.pairs; i += step) {
    const int32_t id = p.ids[i];
    const int32_t place = p.places != nullptr && id >= 0 ? p.places[id] : -1;
    if (p.places != nullptr) p.placed_ids[i] = place;
    p.host_ids[i] = place >= 0 ? ~id : id;
    p.host_weights[i] = p.weights[i];
  }
  if (p.slot.count == nullptr) return;

  // Each thread's stores come before its block's count, all blocks' counts before the flag.
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x != 0) return;
  const uint32_t done = Counter(*p.slot.blocks).fetch_add(1, ::cuda::memory_order_acq_rel) + 1;
  if (done != gridDim.x) return;
  *p.slot.blocks = 0;
  const uint32_t number = ++*p.slot.count;
  __threadfence_system();
  Flag(*p.slot.raised).store(number, ::cuda::memory_order_release);
}

__global__ void receive_kernel(ReceiveParams p) {
  begin();
  if (p.slot.count != nullptr) {
    if (threadIdx.x == 0) {
      const uint32_t number = *p.slot.count;
      const uint64_t start = nanoseconds();
      // As a difference: the count may wrap around.
      while (static_cast<int32_t>(ReadFlag(*p.slot.answered).load(::cuda::memory_order_acquire) -
                                  number) < 0) {
      }
      if (blockIdx.x == 0 && p.slot.waited != nullptr) *p.slot.waited = nanoseconds() - start;
    }
    __syncthreads();
  }
  // Past the caches: they may hold what the layer before was given.
  for_each_value(
      p.values,
      [&](int64_t i) {
        const float4 sum = __ldcv(reinterpret_cast<const float4*>(p.host_sum) + i);
        float4& y = reinterpret_cast<float4*>(p.residual)[i];
        y = make_float4(y.x + sum.x, y.y + sum.y, y.z + sum.z, y.w + sum.w);
      },
      [&](int64_t i) { p.residual[i] += __ldcv(p.host_sum + i); });
}

}  // namespace

void send(const SendParams& p, cudaStream_t stream) {
  if (p.values == 0) return;
  launch("send", send_kernel, blocks_for(p.values), kThreads, stream, p);
}

void receive(const ReceiveParams& p, cudaStream_t stream) {
  if (p.values == 0) return;
  launch("receive", receive_kernel, blocks_for(p.values), kThreads, stream, p);
}

}  // namespace tandem::cuda
