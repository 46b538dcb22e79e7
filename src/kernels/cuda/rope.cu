// A thread for each pair of dimensions.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rope.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;

unsigned blocks_of(int64_t pairs) {
  return static_cast<unsigned>((pairs + kThreads - 1) / kThreads);
}

__global__ void table_kernel(RopeTableParams p) {
  begin();
  const int half = p.dims / 2;
  const int64_t index = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (index >= int64_t{p.tokens} * half) return;
  const int64_t t = index / half;
  const int i = static_cast<int>(index % half);
  const double angle = p.positions[t] * p.frequencies[i];
  float* cos_out = p.table + t * p.dims + (p.interleaved ? 2 * i : i);
  cos_out[0] = static_cast<float>(cos(angle)) * p.magnitude;
  cos_out[p.interleaved ? 1 : half] = static_cast<float>(sin(angle)) * p.magnitude;
}

}  // namespace

void fill_rope_table(const RopeTableParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("table", table_kernel, blocks_of(int64_t{p.tokens} * p.dims / 2), kThreads, stream, p);
}

}  // namespace tandem::cuda
