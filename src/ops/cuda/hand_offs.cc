// A flag is a cache line of its own: the host spins on one while the GPU writes others.
#include "ops/cuda/hand_offs.h"

#include <algorithm>
#include <atomic>
#include <numeric>

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
    : counts_(2 * kSlots * sizeof(uint32_t)),
      flags_(2 * kSlots * kLine),
      waited_(kSlots * sizeof(uint64_t)),
      expected_(kSlots) {
  TANDEM_CUDA_CALL(cudaMemset(counts_.data(), 0, counts_.bytes()));
}

HandOffs::Buffer::Buffer(int64_t tokens, int64_t width, int used)
    : most_values(tokens * width), most_pairs(tokens * used) {
  const size_t rows = Workspace::aligned(static_cast<size_t>(most_values) * sizeof(float));
  const size_t pairs = Workspace::aligned(static_cast<size_t>(most_pairs) * sizeof(float));
  sums = rows;
  ids = 2 * rows;
  weights = ids + pairs;
}

void HandOffs::reserve(const GpuSizes& s) {
  deferred_ = s.deferred_experts;
  buffers_ = buffers_for(s);
  for (Buffer& buffer : buffers_) buffer.memory = platform::cuda::PinnedMemory(buffer.bytes());
}

int64_t HandOffs::bytes(const GpuSizes& sizes) {
  const auto buffers = buffers_for(sizes);
  return static_cast<int64_t>(buffers[0].bytes() + buffers[1].bytes());
}

std::array<HandOffs::Buffer, 2> HandOffs::buffers_for(const GpuSizes& s) {
  std::array<Buffer, 2> buffers;
  if (s.host_experts_used == 0) return buffers;
  buffers[0] =
      Buffer(std::max(s.max_tokens, s.max_sequences), s.host_expert_width, s.host_experts_used);
  if (s.deferred_experts > 0) {
    buffers[1] = Buffer(s.max_sequences, s.host_expert_width, s.host_experts_used);
  }
  return buffers;
}

cuda::HandOff HandOffs::flags_of(const Place& place) const {
  if (!place.flags) return {nullptr, nullptr, nullptr, nullptr, nullptr};
  const size_t slot = place.layer;
  TANDEM_CHECK(slot < kSlots, "hand-off {} of {}", slot, kSlots);
  std::byte* flags = flags_.device();
  return {.count = counts_.as<uint32_t>() + slot,
          .blocks = counts_.as<uint32_t>() + kSlots + slot,
          .raised = reinterpret_cast<uint32_t*>(flags + slot * kLine),
          .answered = reinterpret_cast<const uint32_t*>(flags + (kSlots + slot) * kLine),
          .waited = reinterpret_cast<uint64_t*>(waited_.device()) + slot};
}

void HandOffs::send(const GpuExperts& e, const Place& place, const HotLayer& hot,
                    cudaStream_t stream) const {
  const Buffer& buffer = buffer_of(place, place.layer);
  const int64_t values = e.tokens * e.gate->cols(), pairs = e.tokens * e.used;
  TANDEM_CHECK(values <= buffer.most_values && pairs <= buffer.most_pairs,
               "{} values, {} pairs, reserved {}, {}", values, pairs, buffer.most_values,
               buffer.most_pairs);
  std::byte* host = buffer.memory.device();
  cuda::send({.x = e.x.f32,
              .ids = e.ids,
              .weights = e.weights,
              .host_x = reinterpret_cast<float*>(host),
              .host_ids = reinterpret_cast<int32_t*>(host + buffer.ids),
              .host_weights = reinterpret_cast<float*>(host + buffer.weights),
              .values = values,
              .pairs = pairs,
              .slot = flags_of(place),
              .places = hot.slot_of,
              .placed_ids = hot.ids},
             stream);
}

void HandOffs::receive(const GpuExperts& e, const Place& place, cudaStream_t stream) const {
  const Buffer& buffer = buffer_of(place, place.layer);
  cuda::receive({.host_sum = reinterpret_cast<const float*>(buffer.memory.device() + buffer.sums),
                 .residual = e.residual,
                 .values = e.tokens * e.gate->cols(),
                 .slot = flags_of(place)},
                stream);
}

HostExperts HandOffs::operands(const Place& place, int64_t tokens, bool last) const {
  const Buffer& buffer = buffer_of(place, place.layer);
  const Buffer& next = buffer_of(place, place.layer + 1);
  const bool defers = place.defers && !last;
  std::byte* host = buffer.memory.data();
  return {.x = reinterpret_cast<const float*>(host),
          .ids = reinterpret_cast<const int32_t*>(host + buffer.ids),
          .weights = reinterpret_cast<const float*>(host + buffer.weights),
          .tokens = tokens,
          .sum = reinterpret_cast<float*>(host + buffer.sums),
          .sum_begun = place.defers && place.layer > 0,
          .deferred = defers ? deferred_ : 0,
          .next_sum = defers ? reinterpret_cast<float*>(next.memory.data() + next.sums) : nullptr};
}

void HandOffs::wait(size_t slot, cudaStream_t stream) {
  const Clock::time_point begin = Clock::now();
  if (clock_.slots > 0) clock_.worked += begin - clock_.last;  // on what was deferred
  const uint32_t next = ++expected_[slot];
  const auto raised = flag(flags_.data(), slot);
  for (int looks = 0; raised.load(std::memory_order_acquire) != next; ++looks) {
    if (looks < kLooks) continue;
    looks = 0;
    const cudaError_t status = cudaStreamQuery(stream);
    if (status != cudaErrorNotReady) platform::cuda::check(status, "a replayed step");
  }
  clock_.last = Clock::now();
  clock_.waited += clock_.last - begin;
  clock_.slots = std::max(clock_.slots, slot + 1);
}

void HandOffs::answer(size_t slot) {
  flag(flags_.data(), kSlots + slot).store(expected_[slot], std::memory_order_release);
  const Clock::time_point now = Clock::now();
  clock_.worked += now - clock_.last;
  clock_.last = now;
}

HostTimes HandOffs::times() const {
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  const auto* waited = waited_.as<uint64_t>();
  return {.waited = seconds(clock_.waited),
          .worked = seconds(clock_.worked),
          .gpu_waited = 1e-9 * static_cast<double>(
                                   std::accumulate(waited, waited + clock_.slots, uint64_t{0}))};
}

}  // namespace tandem::ops
