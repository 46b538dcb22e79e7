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

}  // namespace tandem::cuda
