// One thread for each element or group of elements, grid-stride over rows.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void add_kernel(AddParams p) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t t = blockIdx.y;
  if (i < p.n) p.out[t * p.out_stride + i] = p.a[t * p.a_stride + i] + p.b[t * p.b_stride + i];
}

}  // namespace

void add(const AddParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((p.n + kThreads - 1) / kThreads),
                  static_cast<unsigned>(p.tokens));
  add_kernel<<<grid, kThreads, 0, stream>>>(p);
  check_launch("add");
}

}  // namespace tandem::cuda
