// Checks of CUDA's return codes. A failure is the environment's fault: memory, driver, device.
#pragma once

#include <cuda_runtime_api.h>

namespace tandem::platform::cuda {

// Throws Error with the call's name and CUDA's words where status is not cudaSuccess.
void check(cudaError_t status, const char* call);

}  // namespace tandem::platform::cuda

// TANDEM_CUDA_CALL(cudaMalloc(&p, n)): throws Error unless the call succeeds.
#define TANDEM_CUDA_CALL(call) ::tandem::platform::cuda::check(call, #call)
