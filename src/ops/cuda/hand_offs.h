// The host's side of hand-offs inside graphs (kernels/cuda/hand_off.h): one slot for each of a
// step's, the same in all graphs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/hand_off.h"
#include "platform/cuda/memory.h"

namespace tandem::ops {

class HandOffs {
 public:
  HandOffs();

  cuda::HandOff slot(size_t i) const;
  // Spins until the GPU has raised the slot's flag once more. Throws Error when the stream has
  // failed.
  void wait(size_t i, cudaStream_t stream);
  void answer(size_t i);

 private:
  platform::cuda::DeviceMemory counts_;
  platform::cuda::PinnedMemory flags_;  // [slots] raised, then [slots] answered
  std::vector<uint32_t> expected_;      // the last raise that was waited for
};

}  // namespace tandem::ops
