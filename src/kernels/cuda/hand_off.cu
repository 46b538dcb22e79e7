// One thread a kernel; system scope, because the other side is the host.
#include <cuda/atomic>

#include "kernels/cuda/hand_off.h"
#include "kernels/cuda/launch.h"

namespace tandem::cuda {
namespace {

using Flag = ::cuda::atomic_ref<uint32_t, ::cuda::thread_scope_system>;
using ReadFlag = ::cuda::atomic_ref<const uint32_t, ::cuda::thread_scope_system>;

__global__ void raise_kernel(HandOff slot) {
  const uint32_t number = ++*slot.count;
  Flag(*slot.raised).store(number, ::cuda::memory_order_release);
}

__global__ void await_kernel(HandOff slot) {
  const uint32_t number = *slot.count;
  // As a difference: the count may wrap around.
  while (static_cast<int32_t>(ReadFlag(*slot.answered).load(::cuda::memory_order_acquire) -
                              number) < 0) {
  }
}

}  // namespace

void raise(const HandOff& slot, cudaStream_t stream) {
  raise_kernel<<<1, 1, 0, stream>>>(slot);
  check_launch("raise_kernel");
}

void await(const HandOff& slot, cudaStream_t stream) {
  await_kernel<<<1, 1, 0, stream>>>(slot);
  check_launch("await_kernel");
}

}  // namespace tandem::cuda
