// Routed experts handed to the host (kernels/cuda/hand_off.h): the page-locked memory of their
// operands, reserved once and used by one layer after the other, and the host's side of the flags
// inside graphs: one slot for each layer of a step, the same in all graphs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/hand_off.h"
#include "ops/gpu.h"
#include "platform/cuda/memory.h"

namespace tandem::ops {

class HandOffs {
 public:
  HandOffs();

  // Memory for steps of so many tokens at most; before the first hand-off.
  void reserve(int64_t tokens, int64_t width, int used);

  // Enqueue the two halves of the hand-off; `slot`: of a graph's flags, or kNoFlag where the host
  // waits for the stream itself.
  static constexpr size_t kNoFlag = SIZE_MAX;
  void send(const GpuExperts& experts, size_t slot, cudaStream_t stream) const;
  void receive(const GpuExperts& experts, size_t slot, cudaStream_t stream) const;
  // The operands where the host reads and writes them.
  HostExperts operands(int64_t tokens) const;

  // Spins until the GPU has raised the slot's flag once more. Throws Error when the stream has
  // failed.
  void wait(size_t slot, cudaStream_t stream);
  void answer(size_t slot);

 private:
  cuda::HandOff flags_of(size_t slot) const;

  platform::cuda::DeviceMemory counts_;  // [slots] raises, then [slots] blocks
  platform::cuda::PinnedMemory flags_;   // [slots] raised, then [slots] answered
  std::vector<uint32_t> expected_;       // the last raise that was waited for

  // Operands: [T, M] x, [T, M] sums, [T, K] ids, [T, K] weights, at these bytes.
  platform::cuda::PinnedMemory memory_;
  size_t sums_ = 0, ids_ = 0, weights_ = 0;
  int64_t most_values_ = 0, most_pairs_ = 0;
};

}  // namespace tandem::ops
