// Float weights on the ordinary cores: routers, and models whose file was never quantised. A warp
// computes some rows for eight tokens; a lane walks k eight columns at a time.
#include <cuda_fp16.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_float.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4, kTokens = 8;

__device__ float2 as_floats(uint32_t pair, __half) {
  __half2 v;
  memcpy(&v, &pair, sizeof v);
  return __half22float2(v);
}
__device__ float2 as_floats(uint32_t pair, __nv_bfloat16) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)};
}

template <typename T>
__device__ void load8(const T* p, float (&v)[8]) {
  const uint4 raw = reinterpret_cast<const uint4*>(p)[0];
  if constexpr (sizeof(T) == 4) {
    const uint4 more = reinterpret_cast<const uint4*>(p)[1];
    const uint32_t words[8] = {raw.x, raw.y, raw.z, raw.w, more.x, more.y, more.z, more.w};
    for (int i = 0; i < 8; ++i) v[i] = __uint_as_float(words[i]);
  } else {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
    for (int i = 0; i < 4; ++i) {
      const float2 pair = as_floats(words[i], T());
      v[2 * i] = pair.x;
      v[2 * i + 1] = pair.y;
    }
  }
}

// Weights are asked for before the kernel ahead has ended.
__device__ void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// kSplit: the warps of a block share their rows and split the columns, which spreads a router over
// the device: two rows where x is short, eight where reading it for every pair of rows would be
// most of the work. Else each warp has two rows of its own.
template <typename W, bool kSplit, int kRows>
__global__ void __launch_bounds__(kWarps * 32)
    float_kernel(LinearMatrix m, const float* x, int64_t x_stride, int k, int tokens) {
  __shared__ float sums[kWarps][kTokens][kRows];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = (kSplit ? blockIdx.x : blockIdx.x * kWarps + warp) * kRows;
  const int start = 8 * (kSplit ? threadIdx.x : lane), step = 8 * (kSplit ? 32 * kWarps : 32);
  const W* rows[kRows];
  for (int r = 0; r < kRows; ++r) {
    rows[r] = static_cast<const W*>(m.w) + int64_t{min(row + r, m.n - 1)} * k;
  }
  launch_next();
  if (kSplit) {
    for (int at = start; at < k; at += step) {
      for (int r = 0; r < kRows; ++r) prefetch(rows[r] + at);
    }
  }
  wait_for_previous();
  if (row >= m.n) return;  // the whole block where warps share rows
  const int first = blockIdx.y * kTokens, count = min(kTokens, tokens - first);

  float sum[kTokens][kRows] = {};
#pragma unroll(kRows == 2 ? 2 : 1)
  for (int at = start; at < k; at += step) {
    float values[kTokens][8];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t < count) load8(x + (first + t) * x_stride + at, values[t]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float weights[8];
      load8(rows[r] + at, weights);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (t >= count) break;
        for (int i = 0; i < 8; ++i) sum[t][r] = fmaf(weights[i], values[t][i], sum[t][r]);
      }
    }
  }
  const auto store = [&](int t, int r, float v) {
    if (row + r >= m.n) return;
    if (m.bias != nullptr) v += m.bias[row + r];
    float& y = m.y[(first + t) * m.y_stride + row + r];
    y = m.add ? y + v : v;
  };
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t >= count) break;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      for (int distance = 16; distance > 0; distance /= 2) {
        sum[t][r] += __shfl_xor_sync(0xffffffffU, sum[t][r], distance);
      }
      if (lane != 0) continue;
      if (kSplit) {
        sums[warp][t][r] = sum[t][r];
      } else {
        store(t, r, sum[t][r]);
      }
    }
  }
  if (!kSplit) return;
  __syncthreads();
  const int t = threadIdx.x / kRows, r = threadIdx.x % kRows;
  if (t >= count) return;
  float total = 0.0F;
  for (int w = 0; w < kWarps; ++w) total += sums[w][t][r];
  store(t, r, total);
}

template <typename W>
void launch(const LinearParams& p, const LinearMatrix& m, cudaStream_t stream) {
  constexpr int kFewTokens = 64;
  const bool split = p.tokens <= kFewTokens;
  const int rows = split && p.tokens <= kTokens ? 2 : 8;
  const auto kernel = !split      ? float_kernel<W, false, 2>
                      : rows == 2 ? float_kernel<W, true, 2>
                                  : float_kernel<W, true, 8>;
  const dim3 grid(static_cast<unsigned>((m.n + rows - 1) / rows),
                  static_cast<unsigned>((p.tokens + kTokens - 1) / kTokens));
  launch_sharing("float_kernel", kernel, grid, kWarps * 32, 0, stream, m, p.x_f32, p.x_f32_stride,
                 p.k, p.tokens);
}

}  // namespace

void linear_float(const LinearParams& params, int i, cudaStream_t stream) {
  const LinearMatrix& m = params.matrices[i];
  if (m.type == DType::kF32) {
    launch<float>(params, m, stream);
  } else if (m.type == DType::kF16) {
    launch<__half>(params, m, stream);
  } else {
    launch<__nv_bfloat16>(params, m, stream);
  }
}

}  // namespace tandem::cuda
