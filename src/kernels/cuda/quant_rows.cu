// Rows from panels: a warp decodes a stage of the panel that has the row, and keeps the row.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_launch.cuh"
#include "kernels/cuda/quant_codebooks.h"
#include "kernels/cuda/quant_rows.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;

__device__ void store4(float* out, float4 v) { *reinterpret_cast<float4*>(out) = v; }
__device__ void store4(__nv_bfloat16* out, float4 v) {
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(out);
  pairs[0] = __floats2bfloat162_rn(v.x, v.y);
  pairs[1] = __floats2bfloat162_rn(v.z, v.w);
}

// Products and sums round apart, as in the scalar definition.
template <typename Q>
__device__ float4 four_elements(uint32_t bytes, float scale, float min) {
  const auto element = [=](int i) {
    const float product = __fmul_rn(static_cast<float>(byte_of(bytes, i)) - Q::kBias, scale);
    return Q::kHasMin ? __fsub_rn(product, min) : product;
  };
  return {element(0), element(1), element(2), element(3)};
}

template <typename Q, typename Out>
__global__ void __launch_bounds__(kWarps * 32)
    panel_rows_kernel(DecodeRowsParams p, JobBase shape) {
  __shared__ __align__(128) char stages[kWarps][Q::Geometry::kBytes];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const int64_t item = int64_t{blockIdx.x} * kWarps + warp;
  const int64_t t = item / shape.stages;
  const int s = static_cast<int>(item % shape.stages);
  if (t >= p.rows) return;
  const int id = p.ids == nullptr ? static_cast<int>(t) : p.ids[t];
  const bool inside = id >= 0 && id < p.n;
  const int panel = inside ? id / 16 : 0;

  copy_stage<Q>(stages[warp], static_cast<const char*>(p.w) + panel * shape.panel_bytes, s,
                shape.blocks, lane);
  commit_copies();
  wait_copies<0>();
  __syncwarp();
  const Lines lines(stages[warp], g, c);
  const int blocks = min(Q::Geometry::kBlocks, shape.blocks - s * Q::Geometry::kBlocks);
  if (id % 16 / 2 != g && inside) return;
  if (!inside && g != 0) return;
  const int row = inside ? id % 2 : 0;
  Out* out = static_cast<Out*>(p.out) + t * p.out_stride + s * kStageColumns + 4 * c;
  const int parts = min(8, (p.k - s * kStageColumns) / 32);
  for (int j = 0; j < parts; ++j, out += 32) {
    const Codes codes = Q::codes(lines, c, j);
    const Scales scales = Q::scales(lines, g, j, blocks);
    const int last = Q::kGroups - 1;
    const float4 low = four_elements<Q>(codes.low[row], scales.scale[row][0], scales.min[row][0]);
    const float4 high =
        four_elements<Q>(codes.high[row], scales.scale[row][last], scales.min[row][last]);
    const float4 zero = {0.0F, 0.0F, 0.0F, 0.0F};
    store4(out, inside ? low : zero);
    store4(out + 16, inside ? high : zero);
  }
}

__device__ float as_float(float v) { return v; }
__device__ float as_float(__half v) { return __half2float(v); }
__device__ float as_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <typename W, typename Out>
__global__ void float_rows_kernel(DecodeRowsParams p) {
  const int at = (blockIdx.y * blockDim.x + threadIdx.x) * 4;
  const int64_t t = blockIdx.x;
  if (at >= p.k) return;
  const int id = p.ids == nullptr ? static_cast<int>(t) : p.ids[t];
  float4 v = {0.0F, 0.0F, 0.0F, 0.0F};
  if (id >= 0 && id < p.n) {
    const W* row = static_cast<const W*>(p.w) + int64_t{id} * p.k + at;
    v = {as_float(row[0]), as_float(row[1]), as_float(row[2]), as_float(row[3])};
  }
  store4(static_cast<Out*>(p.out) + t * p.out_stride + at, v);
}

template <typename W>
void launch_float_rows(const DecodeRowsParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.rows), static_cast<unsigned>((p.k / 4 + 127) / 128));
  if (p.to_bf16) {
    float_rows_kernel<W, __nv_bfloat16><<<grid, 128, 0, stream>>>(p);
  } else {
    float_rows_kernel<W, float><<<grid, 128, 0, stream>>>(p);
  }
  check_launch("float_rows_kernel");
}

__global__ void round_kernel(RoundParams p) {
  begin();
  const int64_t i = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * 4;
  if (i >= p.n) return;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    store_four(p.out.data + row * p.out.stride, i,
               *reinterpret_cast<const float4*>(p.x + row * p.x_stride + i));
  }
}

}  // namespace

void decode_rows(const DecodeRowsParams& params, cudaStream_t stream) {
  if (params.rows == 0) return;
  if (params.type == DType::kF32) return launch_float_rows<float>(params, stream);
  if (params.type == DType::kF16) return launch_float_rows<__half>(params, stream);
  if (params.type == DType::kBF16) return launch_float_rows<__nv_bfloat16>(params, stream);
  if (decode_codebook_rows(params, stream)) return;
  JobBase shape = {};
  set_shape(shape, params.type, params.n, params.k);
  const int64_t items = int64_t{params.rows} * shape.stages;
  const auto grid = static_cast<unsigned>((items + kWarps - 1) / kWarps);
  with_quant_type(params.type, [&](auto q) {
    using Q = decltype(q);
    if (params.to_bf16) {
      panel_rows_kernel<Q, __nv_bfloat16><<<grid, kWarps * 32, 0, stream>>>(params, shape);
    } else {
      panel_rows_kernel<Q, float><<<grid, kWarps * 32, 0, stream>>>(params, shape);
    }
    check_launch("panel_rows_kernel");
  });
}

void round_for_products(const RoundParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.n % 32 == 0 && p.x_stride % 4 == 0 && p.out.stride % 32 == 0,
               "rows of {}, {} and {} apart", p.n, p.x_stride, p.out.stride);
  if (p.rows == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(p.rows, 1 << 20)),
                  static_cast<unsigned>((p.n / 4 + 127) / 128));
  launch("round_kernel", round_kernel, grid, 128, stream, p);
}

}  // namespace tandem::cuda
