// Launches that overlap with the end of the kernel ahead (programmatic dependent launch): the next
// kernel's blocks become resident while the last ones of this kernel run, and wait there for its
// results. That hides most of the microsecond or two between two small kernels. A kernel launched
// so calls begin() before it touches memory.
#pragma once

#include <nv/target>

#include "kernels/cuda/launch.h"

namespace tandem::cuda {

// Lets the next kernel's blocks in, then waits until all that was enqueued before this kernel is
// done and visible. Waiting in every kernel keeps the order whole: a kernel does not end before
// those ahead of it have ended.
inline __device__ void begin() {
  NV_IF_TARGET(NV_PROVIDES_SM_90, (asm volatile("griddepcontrol.launch_dependents;" ::
                                                    : "memory");
                                   asm volatile("griddepcontrol.wait;" ::
                                                    : "memory");))
}

template <typename Params>
void launch(const char* name, void (*kernel)(Params), dim3 grid, unsigned threads,
            cudaStream_t stream, const Params& params) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = has_dependent_launch() ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, params);
  check_launch(name);
}

}  // namespace tandem::cuda
