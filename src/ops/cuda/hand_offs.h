// Routed experts handed to the host (kernels/cuda/hand_off.h): the page-locked memory of their
// operands, reserved once and used by one layer after the other, and the host's side of the flags
// inside graphs: one slot for each layer of a step, the same in all graphs.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/hand_off.h"
#include "ops/cuda/hot_slots.h"
#include "ops/gpu.h"
#include "platform/cuda/memory.h"

namespace tandem::ops {

class HandOffs {
 public:
  HandOffs();

  // Memory for steps of so many tokens at most; before the first hand-off.
  void reserve(const GpuSizes& sizes);
  static int64_t bytes(const GpuSizes& sizes);

  // A layer's place in its step. Layers that defer take the two buffers in turns: the host still
  // reads one layer's x while the next one's arrives.
  struct Place {
    size_t layer;  // of experts, from 0 in each step
    bool flags;    // in a graph; else the host waits for the stream itself
    bool defers;   // the step does
  };
  // Enqueue the two halves of the hand-off.
  // hot: of the layer; its `ids` are written, and experts that have a slot reach the host as ~id.
  void send(const GpuExperts& experts, const Place& place, const HotLayer& hot,
            cudaStream_t stream) const;
  void receive(const GpuExperts& experts, const Place& place, cudaStream_t stream) const;
  // The operands where the host reads and writes them.
  HostExperts operands(const Place& place, int64_t tokens, bool last) const;

  // Spins until the GPU has raised the slot's flag once more. Throws Error when the stream has
  // failed.
  void wait(size_t slot, cudaStream_t stream);
  void answer(size_t slot);

  // Where the time of the last graph's host part went. launched() comes before its first wait();
  // times() is valid once the graph has ended.
  void launched() { clock_ = {}; }
  HostTimes times() const;

 private:
  // x [T, M], sums [T, M], ids [T, K] and weights [T, K], at these bytes.
  struct Buffer {
    Buffer() = default;
    Buffer(int64_t tokens, int64_t width, int used);  // takes no memory yet
    size_t bytes() const { return weights + weights - ids; }

    platform::cuda::PinnedMemory memory;
    size_t sums = 0, ids = 0, weights = 0;
    int64_t most_values = 0, most_pairs = 0;
  };
  const Buffer& buffer_of(const Place& place, size_t layer) const {
    return buffers_[place.defers ? layer % 2 : 0];
  }
  static std::array<Buffer, 2> buffers_for(const GpuSizes& sizes);
  cuda::HandOff flags_of(const Place& place) const;

  platform::cuda::DeviceMemory counts_;  // [slots] raises, then [slots] blocks
  platform::cuda::PinnedMemory flags_;   // [slots] raised, then [slots] answered
  platform::cuda::PinnedMemory waited_;  // [slots] nanoseconds of the GPU
  std::vector<uint32_t> expected_;       // the last raise that was waited for
  std::array<Buffer, 2> buffers_;        // the second for steps that defer
  int deferred_ = 0;

  using Clock = std::chrono::steady_clock;
  struct {
    Clock::time_point last = {};  // that something ended; none: no slot was waited for
    Clock::duration waited = {}, worked = {};
    size_t slots = 0;
  } clock_;
};

}  // namespace tandem::ops
