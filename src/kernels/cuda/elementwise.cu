// One thread for each element of a row, a grid row for each token. A step's rows are short beside
// what the device keeps in flight, so wider accesses gain nothing measurable here.
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/math.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 256;

dim3 grid_of(int64_t columns, int64_t rows) {
  return dim3(static_cast<unsigned>((columns + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < 65535 ? rows : 65535));
}

// Calls body(row, column) for each element, once in all threads together.
template <typename Body>
__device__ void for_each_element(int64_t rows, int64_t columns, const Body& body) {
  const int64_t column = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (column >= columns) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) body(row, column);
}

__global__ void add_kernel(AddParams p) {
  begin();
  for_each_element(p.tokens, p.n, [&](int64_t t, int64_t i) {
    p.out.data[t * p.out.stride + i] = p.a.data[t * p.a.stride + i] + p.b.data[t * p.b.stride + i];
  });
}

__global__ void multiply_add_kernel(MultiplyAddParams p) {
  begin();
  for_each_element(p.tokens, p.n, [&](int64_t t, int64_t i) {
    const float factor = p.sigmoid ? exact_sigmoid(p.factor[t]) : p.factor[t];
    float& y = p.y.data[t * p.y.stride + i];
    y = fmaf(factor, p.x.data[t * p.x.stride + i], y);
  });
}

__global__ void silu_mul_kernel(SiluMulParams p) {
  begin();
  for_each_element(p.tokens, p.n, [&](int64_t t, int64_t i) {
    const float g = p.gate.data[t * p.gate.stride + i];
    const float silu = g / (1.0F + exact_exp(0.0F - g));
    p.out.data[t * p.out.stride + i] = silu * p.up.data[t * p.up.stride + i];
  });
}

__global__ void gather_rows_kernel(GatherRowsParams p) {
  begin();
  for_each_element(p.count, p.n, [&](int64_t row, int64_t i) {
    p.out.data[row * p.out.stride + i] = p.x.data[p.rows[row] * p.x.stride + i];
  });
}

}  // namespace

void add(const AddParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("add", add_kernel, grid_of(p.n, p.tokens), kThreads, stream, p);
}

void multiply_add(const MultiplyAddParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("multiply_add", multiply_add_kernel, grid_of(p.n, p.tokens), kThreads, stream, p);
}

void silu_mul(const SiluMulParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return;
  launch("silu_mul", silu_mul_kernel, grid_of(p.n, p.tokens), kThreads, stream, p);
}

void gather_rows(const GatherRowsParams& p, cudaStream_t stream) {
  if (p.count == 0) return;
  launch("gather_rows", gather_rows_kernel, grid_of(p.n, p.count), kThreads, stream, p);
}

}  // namespace tandem::cuda
