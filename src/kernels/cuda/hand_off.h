// Passing work to a host thread and back in the middle of a stream or a graph, by flags in mapped
// host memory: 3.4 us there and back, where a host-function node takes 46.
//
//   stream   ... copies to the host | raise | other kernels | await | copies back ...
//   host              spins until raised[slot] is new, works, answered[slot] = raised[slot]
//
// A slot's flags count up, on the device, so a replayed graph needs no new parameters.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

struct HandOff {
  uint32_t* count;           // device: of this slot, 0 at first
  uint32_t* raised;          // mapped host memory, as the device addresses it
  const uint32_t* answered;  // the same
};

// Everything enqueued before is visible to a host that reads `raised` as new.
void raise(const HandOff& slot, cudaStream_t stream);
// Waits until the host has answered the last raise. Takes one warp's place on the GPU meanwhile.
void await(const HandOff& slot, cudaStream_t stream);

}  // namespace tandem::cuda
