// Allocation at start only: each of these calls waits for the device.
#include "platform/cuda/memory.h"

#include <cstring>

#include <cuda_runtime_api.h>

#include "base/error.h"
#include "platform/cuda/error.h"

namespace tandem::platform::cuda {

DeviceMemory::DeviceMemory(size_t bytes) {
  if (bytes == 0) return;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    TANDEM_CUDA_CALL(cudaMemGetInfo(&free, &total));
    throw Error("the GPU has no {} MiB left: {} of {} MiB are free", (bytes >> 20) + 1, free >> 20,
                total >> 20);
  }
  check(status, "cudaMalloc");
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

// A failure here, after an error or at the process's end, leaves nothing to do.
DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) cudaFree(data_);
}

PinnedMemory::PinnedMemory(size_t bytes) {
  if (bytes == 0) return;
  void* memory = nullptr;
  const cudaError_t status =
      cudaHostAlloc(&memory, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error("{} MiB of page-locked host memory cannot be had; free memory or raise the limit",
                (bytes >> 20) + 1);
  }
  check(status, "cudaHostAlloc");
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
  std::memset(data_, 0, bytes);
  void* device = nullptr;
  TANDEM_CUDA_CALL(cudaHostGetDevicePointer(&device, memory, 0));
  device_ = static_cast<std::byte*>(device);
}

PinnedMemory::~PinnedMemory() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

LockedMemory::LockedMemory(std::span<std::byte> memory) : data_(memory.data()) {
  const cudaError_t status =
      cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable);
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // it would be reported again by the next launch
  throw Error("cannot lock {} MiB of host memory for copies to the GPU: {}", memory.size() >> 20,
              cudaGetErrorString(status));
}

LockedMemory::~LockedMemory() { (void)cudaHostUnregister(data_); }

}  // namespace tandem::platform::cuda
