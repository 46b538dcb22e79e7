// All kernels are built for the same architectures: one stands for all.
#include "kernels/cuda/launch.h"

namespace tandem::cuda {
namespace {

__global__ void nothing() {}

}  // namespace

bool has_code_for_device() {
  cudaFuncAttributes attributes;
  const bool found = cudaFuncGetAttributes(&attributes, nothing) == cudaSuccess;
  cudaGetLastError();  // a failure shall not be taken for a later call's
  return found;
}

}  // namespace tandem::cuda
