// A refused launch is a wrong configuration, or a binary without code for the device.
#include "kernels/cuda/launch.h"

#include "base/error.h"

namespace tandem::cuda {
namespace {

// Of the current device.
int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&value, which, device);
  if (status != cudaSuccess) {
    throw Error("the device's properties failed: {} ({})", cudaGetErrorString(status),
                cudaGetErrorName(status));
  }
  return value;
}

}  // namespace

void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) [[likely]]
    return;
  throw Error("kernel {} was refused: {} ({})", kernel, cudaGetErrorString(status),
              cudaGetErrorName(status));
}

bool has_dependent_launch() { return attribute(cudaDevAttrComputeCapabilityMajor) >= 9; }

int multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }

int compute_capability() {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
         attribute(cudaDevAttrComputeCapabilityMinor);
}

int most_shared_bytes() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

int shared_bytes_together() { return attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor); }

}  // namespace tandem::cuda
