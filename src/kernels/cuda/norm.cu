// A block for each row, 4 floats in a thread's hands at a time. The row is read twice; the second
// time it comes from the first-level cache.
#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.h"

namespace tandem::cuda {
namespace {

constexpr int kMaxThreads = 512;

template <int kWidth>
struct Group;
template <>
struct Group<1> {
  float lane[1];
};
template <>
struct alignas(16) Group<4> {
  float lane[4];
};

template <int kWidth>
__device__ Group<kWidth> load(const float* p) {
  return *reinterpret_cast<const Group<kWidth>*>(p);
}

// The sum of all threads' values, in every thread: pairs at distances 16 .. 1 in a warp, then the
// warps in order.
__device__ float block_sum(float value) {
  __shared__ float warps[kMaxThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  }
  if (blockDim.x == 32) return value;
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0F;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += warps[w];
  return sum;
}

template <int kWidth>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_kernel(RmsNormParams p) {
  begin();
  const int64_t row = blockIdx.x;
  float* x = p.x.data + row * p.x.stride;
  const float* addend = p.addend.data == nullptr ? nullptr : p.addend.data + row * p.addend.stride;
  float* y = p.y.data + row * p.y.stride;
  const int64_t step = int64_t{blockDim.x} * kWidth;
  const int64_t first = int64_t{threadIdx.x} * kWidth;

  float squares = 0.0F;
  for (int64_t i = first; i < p.n; i += step) {
    Group<kWidth> values = load<kWidth>(x + i);
    if (addend != nullptr) {
      const Group<kWidth> more = load<kWidth>(addend + i);
      for (int l = 0; l < kWidth; ++l) values.lane[l] += more.lane[l];
      *reinterpret_cast<Group<kWidth>*>(x + i) = values;
    }
    for (int l = 0; l < kWidth; ++l) squares = fmaf(values.lane[l], values.lane[l], squares);
  }
  const float mean = block_sum(squares) / static_cast<float>(p.n);
  const float factor = 1.0F / sqrtf(mean + p.epsilon);
  for (int64_t i = first; i < p.n; i += step) {
    Group<kWidth> values = load<kWidth>(x + i);
    const Group<kWidth> weight = load<kWidth>(p.weight + i);
    for (int l = 0; l < kWidth; ++l) values.lane[l] = values.lane[l] * factor * weight.lane[l];
    *reinterpret_cast<Group<kWidth>*>(y + i) = values;
  }
}

bool is_aligned(const float* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 4 == 0;
}

}  // namespace

void rms_norm(const RmsNormParams& p, cudaStream_t stream) {
  if (p.rows == 0) return;
  const bool wide = p.n % 4 == 0 && is_aligned(p.x.data, p.x.stride) &&
                    is_aligned(p.addend.data, p.addend.stride) && is_aligned(p.weight, 0) &&
                    is_aligned(p.y.data, p.y.stride);
  const int64_t groups = wide ? p.n / 4 : p.n;
  const auto threads =
      static_cast<unsigned>(std::min<int64_t>((groups + 31) / 32 * 32, kMaxThreads));
  const auto blocks = static_cast<unsigned>(p.rows);
  if (wide) {
    launch("rms_norm", rms_norm_kernel<4>, blocks, threads, stream, p);
  } else {
    launch("rms_norm", rms_norm_kernel<1>, blocks, threads, stream, p);
  }
}

}  // namespace tandem::cuda
