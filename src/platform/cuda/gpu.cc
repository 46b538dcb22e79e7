// Asks the CUDA runtime, which finds out by itself whether there is a driver.
#include "platform/gpu.h"

#include <cuda_runtime_api.h>

#include "base/error.h"
#include "platform/cuda/error.h"

namespace tandem::platform {
namespace {

Gpu describe(int device) {
  cudaDeviceProp properties;
  TANDEM_CUDA_CALL(cudaGetDeviceProperties(&properties, device));
  size_t free = 0, total = 0;
  TANDEM_CUDA_CALL(cudaSetDevice(device));
  TANDEM_CUDA_CALL(cudaMemGetInfo(&free, &total));
  return {.name = properties.name,
          .compute = 10 * properties.major + properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory_bytes = static_cast<int64_t>(total),
          .free_bytes = static_cast<int64_t>(free)};
}

}  // namespace

Gpus find_gpus() {
  Gpus gpus;
  gpus.built_cuda = CUDART_VERSION;
  if (cudaDriverGetVersion(&gpus.driver_cuda) != cudaSuccess) gpus.driver_cuda = 0;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    gpus.missing = std::string("no GPU: ") +
                   (status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status));
    cudaGetLastError();  // takes the failure back, so that later calls do not report it
    return gpus;
  }
  try {
    int current = 0;
    TANDEM_CUDA_CALL(cudaGetDevice(&current));
    for (int device = 0; device < count; ++device) gpus.list.push_back(describe(device));
    TANDEM_CUDA_CALL(cudaSetDevice(current));
  } catch (const Error& error) {
    gpus.list.clear();
    gpus.missing = std::string("no GPU: ") + error.what();
  }
  return gpus;
}

}  // namespace tandem::platform
