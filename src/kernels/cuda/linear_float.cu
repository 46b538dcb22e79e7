// Float weights on the ordinary cores: routers, and models whose file was never quantised. A warp
// computes two rows for eight tokens; a lane walks k eight columns at a time.
#include <cuda_fp16.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_float.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4, kRows = 2, kTokens = 8;

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

template <typename W, typename X>
__global__ void __launch_bounds__(kWarps * 32)
    float_kernel(LinearMatrix m, const X* x, int64_t x_stride, int k, int tokens) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = (blockIdx.x * kWarps + warp) * kRows;
  if (row >= m.n) return;
  const int first = blockIdx.y * kTokens, count = min(kTokens, tokens - first);
  const auto* w = static_cast<const W*>(m.w);
  const W* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = w + int64_t{min(row + r, m.n - 1)} * k;

  float sum[kTokens][kRows] = {};
  for (int at = 8 * lane; at < k; at += 8 * 32) {
    float weights[kRows][8];
    for (int r = 0; r < kRows; ++r) load8(rows[r] + at, weights[r]);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= count) break;
      float values[8];
      load8(x + (first + t) * x_stride + at, values);
      for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < 8; ++i) sum[t][r] = fmaf(weights[r][i], values[i], sum[t][r]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t >= count) break;
    for (int r = 0; r < kRows; ++r) {
      for (int distance = 16; distance > 0; distance /= 2) {
        sum[t][r] += __shfl_xor_sync(0xffffffffU, sum[t][r], distance);
      }
      if (lane != 0 || row + r >= m.n) continue;
      const float v = sum[t][r] + (m.bias == nullptr ? 0.0F : m.bias[row + r]);
      float& y = m.y[(first + t) * m.y_stride + row + r];
      y = m.add ? y + v : v;
    }
  }
}

template <typename W>
void launch(const LinearParams& p, const LinearMatrix& m, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((m.n + kWarps * kRows - 1) / (kWarps * kRows)),
                  static_cast<unsigned>((p.tokens + kTokens - 1) / kTokens));
  if (p.x_f32 != nullptr) {
    float_kernel<W><<<grid, kWarps * 32, 0, stream>>>(m, p.x_f32, p.x_f32_stride, p.k, p.tokens);
  } else {
    float_kernel<W><<<grid, kWarps * 32, 0, stream>>>(m, p.x, p.x_stride, p.k, p.tokens);
  }
  check_launch("float_kernel");
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
