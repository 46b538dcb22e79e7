// Launches that overlap with the end of the kernel ahead (programmatic dependent launch): the next
// kernel's blocks become resident while the last ones of this kernel run, and wait there for its
// results. That hides most of the microsecond or two between two small kernels. GPUs before compute
// capability 9.0 run the same kernels one after the other.
//
// A kernel launched so may start before its predecessor has ended. It calls begin() before it
// touches memory, or, to read weights ahead, launch_next() and later wait_for_previous(). It must
// not read what other kernels wrote through the read-only cache (__ldg): that may hold what was
// there before.
#pragma once

#include <nv/target>

#include "kernels/cuda/launch.h"

namespace tandem::cuda {

// The next kernel may take up what multiprocessors have free.
inline __device__ void launch_next() {
  NV_IF_TARGET(NV_PROVIDES_SM_90, (asm volatile("griddepcontrol.launch_dependents;" ::: "memory");))
}
// All that was enqueued before this kernel is done and visible afterwards. Waiting in every kernel
// keeps the order whole: a kernel does not end before those ahead of it have ended.
inline __device__ void wait_for_previous() {
  NV_IF_TARGET(NV_PROVIDES_SM_90, (asm volatile("griddepcontrol.wait;" ::: "memory");))
}
inline __device__ void begin() {
  launch_next();
  wait_for_previous();
}

// With dynamic shared memory.
template <typename... Params, typename... Args>
void launch_sharing(const char* name, void (*kernel)(Params...), dim3 grid, unsigned threads,
                    int shared_bytes, cudaStream_t stream, const Args&... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = has_dependent_launch() ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, args...);
  check_launch(name);
}

template <typename Params>
void launch(const char* name, void (*kernel)(Params), dim3 grid, unsigned threads,
            cudaStream_t stream, const Params& params) {
  launch_sharing(name, kernel, grid, threads, 0, stream, params);
}

}  // namespace tandem::cuda
