// A thread for each pair of dimensions.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rope.h"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;

unsigned blocks_of(int64_t pairs) {
  return static_cast<unsigned>((pairs + kThreads - 1) / kThreads);
}

// Where the cos of pair i stands in a row of the table, and how far behind it the sin.
struct TablePlace {
  int cos, to_sin;
};
__device__ TablePlace place(int i, int dims, bool interleaved) {
  return interleaved ? TablePlace{2 * i, 1} : TablePlace{i, dims / 2};
}

__global__ void table_kernel(RopeTableParams p) {
  begin();
  const int half = p.dims / 2;
  const int64_t index = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (index >= int64_t{p.tokens} * half) return;
  const int64_t t = index / half;
  const int i = static_cast<int>(index % half);
  const double angle = p.positions[t] * p.frequencies[i];
  const TablePlace at = place(i, p.dims, p.interleaved);
  float* cos_out = p.table + t * p.dims + at.cos;
  cos_out[0] = static_cast<float>(cos(angle)) * p.magnitude;
  cos_out[at.to_sin] = static_cast<float>(sin(angle)) * p.magnitude;
}

__global__ void rope_kernel(RopeParams p) {
  begin();
  const int half = p.dims / 2;
  const int64_t index = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (index >= int64_t{p.tokens} * p.heads * half) return;
  const int i = static_cast<int>(index % half);
  const int64_t head = index / half % p.heads, t = index / half / p.heads;
  const TablePlace at = place(i, p.dims, p.interleaved);
  const float* row = p.table + t * p.dims;
  const float cos = row[at.cos], sin = row[at.cos + at.to_sin];
  float* x = p.x + t * p.token_stride + head * p.head_stride;
  float& first = x[p.interleaved ? 2 * i : i];
  float& second = x[p.interleaved ? 2 * i + 1 : half + i];
  const float a = first, b = second;
  first = a * cos - b * sin;
  second = a * sin + b * cos;
}

}  // namespace

void fill_rope_table(const RopeTableParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("table", table_kernel, blocks_of(int64_t{p.tokens} * p.dims / 2), kThreads, stream, p);
}

void rope(const RopeParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("rope", rope_kernel, blocks_of(int64_t{p.tokens} * p.heads * p.dims / 2), kThreads, stream,
         p);
}

}  // namespace tandem::cuda
