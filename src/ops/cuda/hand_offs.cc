// A flag is a cache line of its own: the host spins on one while the GPU writes others.
#include "ops/cuda/hand_offs.h"

#include <atomic>

#include "base/check.h"
#include "ops/context.h"
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
    : counts_(2 * kSlots * sizeof(uint32_t)), flags_(2 * kSlots * kLine), expected_(kSlots) {
  TANDEM_CUDA_CALL(cudaMemset(counts_.data(), 0, counts_.bytes()));
}

void HandOffs::reserve(int64_t tokens, int64_t width, int used) {
  most_values_ = tokens * width;
  most_pairs_ = tokens * used;
  const size_t rows = Workspace::aligned(static_cast<size_t>(most_values_) * sizeof(float));
  const size_t pairs = Workspace::aligned(static_cast<size_t>(most_pairs_) * sizeof(float));
  sums_ = rows;
  ids_ = 2 * rows;
  weights_ = ids_ + pairs;
  memory_ = platform::cuda::PinnedMemory(weights_ + pairs);
}

cuda::HandOff HandOffs::flags_of(size_t slot) const {
  if (slot == kNoFlag) return {nullptr, nullptr, nullptr, nullptr};
  TANDEM_CHECK(slot < kSlots, "hand-off {} of {}", slot, kSlots);
  std::byte* flags = flags_.device();
  return {.count = counts_.as<uint32_t>() + slot,
          .blocks = counts_.as<uint32_t>() + kSlots + slot,
          .raised = reinterpret_cast<uint32_t*>(flags + slot * kLine),
          .answered = reinterpret_cast<const uint32_t*>(flags + (kSlots + slot) * kLine)};
}

void HandOffs::send(const GpuExperts& e, size_t slot, cudaStream_t stream) const {
  const int64_t values = e.tokens * e.gate->cols(), pairs = e.tokens * e.used;
  TANDEM_CHECK(values <= most_values_ && pairs <= most_pairs_,
               "{} values, {} pairs, reserved {}, {}", values, pairs, most_values_, most_pairs_);
  std::byte* host = memory_.device();
  cuda::send({.x = e.x,
              .ids = e.ids,
              .weights = e.weights,
              .host_x = reinterpret_cast<float*>(host),
              .host_ids = reinterpret_cast<int32_t*>(host + ids_),
              .host_weights = reinterpret_cast<float*>(host + weights_),
              .values = values,
              .pairs = pairs,
              .slot = flags_of(slot)},
             stream);
}

void HandOffs::receive(const GpuExperts& e, size_t slot, cudaStream_t stream) const {
  cuda::receive({.host_sum = reinterpret_cast<const float*>(memory_.device() + sums_),
                 .residual = e.residual,
                 .values = e.tokens * e.gate->cols(),
                 .slot = flags_of(slot)},
                stream);
}

HostExperts HandOffs::operands(int64_t tokens) const {
  std::byte* host = memory_.data();
  return {.x = reinterpret_cast<const float*>(host),
          .ids = reinterpret_cast<const int32_t*>(host + ids_),
          .weights = reinterpret_cast<const float*>(host + weights_),
          .sum = reinterpret_cast<float*>(host + sums_),
          .tokens = tokens};
}

void HandOffs::wait(size_t slot, cudaStream_t stream) {
  const uint32_t next = ++expected_[slot];
  const auto raised = flag(flags_.data(), slot);
  for (int looks = 0; raised.load(std::memory_order_acquire) != next; ++looks) {
    if (looks < kLooks) continue;
    looks = 0;
    const cudaError_t status = cudaStreamQuery(stream);
    if (status != cudaErrorNotReady) platform::cuda::check(status, "a replayed step");
  }
}

void HandOffs::answer(size_t slot) {
  flag(flags_.data(), kSlots + slot).store(expected_[slot], std::memory_order_release);
}

}  // namespace tandem::ops
