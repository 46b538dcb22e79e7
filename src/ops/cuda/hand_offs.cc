// A flag is a cache line of its own: the host spins on one while the GPU writes others.
#include "ops/cuda/hand_offs.h"

#include <atomic>

#include "base/check.h"
#include "platform/cuda/error.h"

namespace tandem::ops {
namespace {

constexpr size_t kSlots = 256;  // layers of experts
constexpr size_t kLine = 64;
// Looks at a flag take some 0.1 us each: about every millisecond the stream is asked.
constexpr int kLooks = 10000;

std::atomic_ref<uint32_t> flag(std::byte* flags, size_t i) {
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(flags + i * kLine));
}

}  // namespace

HandOffs::HandOffs()
    : counts_(kSlots * sizeof(uint32_t)), flags_(2 * kSlots * kLine), expected_(kSlots) {
  TANDEM_CUDA_CALL(cudaMemset(counts_.data(), 0, counts_.bytes()));
}

cuda::HandOff HandOffs::slot(size_t i) const {
  TANDEM_CHECK(i < kSlots, "hand-off {} of {}", i, kSlots);
  std::byte* flags = flags_.device();
  return {.count = counts_.as<uint32_t>() + i,
          .raised = reinterpret_cast<uint32_t*>(flags + i * kLine),
          .answered = reinterpret_cast<const uint32_t*>(flags + (kSlots + i) * kLine)};
}

void HandOffs::wait(size_t i, cudaStream_t stream) {
  const uint32_t next = ++expected_[i];
  const auto raised = flag(flags_.data(), i);
  for (int looks = 0; raised.load(std::memory_order_acquire) != next; ++looks) {
    if (looks < kLooks) continue;
    looks = 0;
    const cudaError_t status = cudaStreamQuery(stream);
    if (status != cudaErrorNotReady) platform::cuda::check(status, "a replayed step");
  }
}

void HandOffs::answer(size_t i) {
  flag(flags_.data(), kSlots + i).store(expected_[i], std::memory_order_release);
}

}  // namespace tandem::ops
