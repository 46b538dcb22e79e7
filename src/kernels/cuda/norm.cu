// A block for each row, which its threads hold in registers, 4 floats at a time where rows are
// aligned.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/experts_sum.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/product_rows.cuh"

namespace tandem::cuda {
namespace {

constexpr int kMaxThreads = 512;
constexpr int kMaxGroups = 16;  // that a thread holds

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

__device__ void store_rounded(__nv_bfloat16* row, int64_t column, const Group<1>& v) {
  row[product_place(column)] = __float2bfloat16_rn(v.lane[0]);
}
__device__ void store_rounded(__nv_bfloat16* row, int64_t column, const Group<4>& v) {
  store_four(row, column, {v.lane[0], v.lane[1], v.lane[2], v.lane[3]});
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

// A thread holds kGroups groups at most, and loads its weights before the sum is known.
template <int kWidth, int kGroups>
__global__ void __launch_bounds__(kMaxThreads) rms_norm_kernel(RmsNormParams p) {
  begin();
  const int64_t row = blockIdx.x;
  float* x = p.x.data + row * p.x.stride;
  const float* addend = p.addend.data == nullptr ? nullptr : p.addend.data + row * p.addend.stride;
  float* y = p.y.data + row * p.y.stride;
  __nv_bfloat16* rounded =
      p.rounded.data == nullptr ? nullptr : p.rounded.data + row * p.rounded.stride;
  const auto place = [&](int g) { return (int64_t{g} * blockDim.x + threadIdx.x) * kWidth; };

  Group<kWidth> values[kGroups], weights[kGroups];
  float squares = 0.0F;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int64_t i = place(g);
    if (i >= p.n) break;
    values[g] = load<kWidth>(x + i);
    weights[g] = load<kWidth>(p.weight + i);
    if (addend != nullptr || p.experts.results != nullptr) {
      const Group<kWidth> more = addend != nullptr
                                     ? load<kWidth>(addend + i)
                                     : sum_of_experts<Group<kWidth>>(p.experts, row, i);
      for (int l = 0; l < kWidth; ++l) values[g].lane[l] += more.lane[l];
      *reinterpret_cast<Group<kWidth>*>(x + i) = values[g];
    }
    for (int l = 0; l < kWidth; ++l) {
      squares = fmaf(values[g].lane[l], values[g].lane[l], squares);
    }
  }
  const float mean = block_sum(squares) / static_cast<float>(p.n);
  const float factor = 1.0F / sqrtf(mean + p.epsilon);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int64_t i = place(g);
    if (i >= p.n) break;
    for (int l = 0; l < kWidth; ++l) {
      values[g].lane[l] = values[g].lane[l] * factor * weights[g].lane[l];
    }
    *reinterpret_cast<Group<kWidth>*>(y + i) = values[g];
    if (rounded != nullptr) store_rounded(rounded, i, values[g]);
  }
}

template <int kWidth>
void launch_norm(const RmsNormParams& p, cudaStream_t stream) {
  const int64_t groups = (p.n + kWidth - 1) / kWidth;
  const int64_t threads = std::min<int64_t>((groups + 31) / 32 * 32, kMaxThreads);
  const int64_t held = (groups + threads - 1) / threads;
  TANDEM_CHECK(held <= kMaxGroups, "rows of {}", p.n);
  const auto kernel = held == 1   ? rms_norm_kernel<kWidth, 1>
                      : held <= 4 ? rms_norm_kernel<kWidth, 4>
                                  : rms_norm_kernel<kWidth, kMaxGroups>;
  launch("rms_norm", kernel, static_cast<unsigned>(p.rows), static_cast<unsigned>(threads), stream,
         p);
}

bool is_aligned(const float* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 4 == 0;
}

}  // namespace

void rms_norm(const RmsNormParams& p, cudaStream_t stream) {
  TANDEM_CHECK(
      p.experts.results == nullptr ||
          (p.addend.data == nullptr && p.experts.width == p.n && p.experts.tokens == p.rows),
      "{} rows of {} for the experts of {} tokens", p.rows, p.n, p.experts.tokens);
  TANDEM_CHECK(p.rounded.data == nullptr || p.n % 32 == 0, "rows of {} for products", p.n);
  if (p.rows == 0) return;
  const bool wide = p.n % 4 == 0 && is_aligned(p.x.data, p.x.stride) &&
                    is_aligned(p.addend.data, p.addend.stride) && is_aligned(p.weight, 0) &&
                    is_aligned(p.y.data, p.y.stride);
  if (wide) {
    launch_norm<4>(p, stream);
  } else {
    launch_norm<1>(p, stream);
  }
}

}  // namespace tandem::cuda
