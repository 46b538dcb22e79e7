// Launches that overlap with the end of the kernel before them in the stream ("programmatic
// dependent launch"): between two small products the gap falls from about 1.5 us to the time of the
// last block. GPUs before compute capability 9.0 run the same kernels one after the other.
//
// A kernel launched so may start before its predecessor has finished. It must call
// wait_for_previous() before it reads or writes anything but weights, and must not read what other
// kernels wrote through the read-only cache (__ldg): that may hold what was there before.
#pragma once

#include <cuda_runtime.h>
#include <nv/target>

#include "kernels/cuda/launch.h"

namespace tandem::cuda {

// Everything that earlier kernels wrote is visible afterwards.
__device__ inline void wait_for_previous() {
  NV_IF_TARGET(NV_PROVIDES_SM_90, (asm volatile("griddepcontrol.wait;" ::: "memory");))
}
// The next kernel may take up what multiprocessors have free.
__device__ inline void launch_next() {
  NV_IF_TARGET(NV_PROVIDES_SM_90, (asm volatile("griddepcontrol.launch_dependents;");))
}

template <typename... Params, typename... Args>
void launch_dependent(const char* name, void (*kernel)(Params...), dim3 grid, int threads,
                      int shared_bytes, cudaStream_t stream, const Args&... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, args...);
  check_launch(name);
}

}  // namespace tandem::cuda
