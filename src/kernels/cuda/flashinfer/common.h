// What the wrappers of FlashInfer share: its errors as ours, a workspace cut into parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include <cuda_runtime_api.h>

#include "base/error.h"
#include "kernels/cuda/launch.h"

namespace tandem::cuda::flashinfer {

// Calls body, which returns a CUDA status or throws the library's exception; throws Error for both.
template <typename Body>
void call(const char* what, const Body& body) {
  cudaError_t status = cudaSuccess;
  try {
    status = body();
  } catch (const std::exception& error) {
    throw Error("{} failed: {}", what, error.what());
  }
  if (status != cudaSuccess) {
    throw Error("{} failed: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
  }
}

inline constexpr size_t kAlignment = 256;
inline size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The library takes mutable pointers to arrays that it only reads.
inline int32_t* readable(const int32_t* p) { return const_cast<int32_t*>(p); }

}  // namespace tandem::cuda::flashinfer
