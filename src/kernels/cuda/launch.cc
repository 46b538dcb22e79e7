// A refused launch is a wrong configuration, or a binary without code for the device.
#include "kernels/cuda/launch.h"

#include "base/error.h"

namespace tandem::cuda {

void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status == cudaSuccess) [[likely]]
    return;
  throw Error("kernel {} was refused: {} ({})", kernel, cudaGetErrorString(status),
              cudaGetErrorName(status));
}

bool has_dependent_launch() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major >= 9;
}

}  // namespace tandem::cuda
