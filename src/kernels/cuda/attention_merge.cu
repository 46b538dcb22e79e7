// A block for each row and head; its warps take every fourth part each, so that several loads are
// under way.
#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear.h"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr unsigned kAll = 0xffffffffU;

template <int kPerLane>
struct alignas(4 * kPerLane) Columns {
  float lane[kPerLane];
};

template <int kPerLane>
__global__ void __launch_bounds__(32 * kWarps) merge_kernel(MergeParams p) {
  begin();
  constexpr int kDim = 32 * kPerLane;
  __shared__ float outputs[kWarps][kDim];
  __shared__ float weights[kWarps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t row = blockIdx.x, head = blockIdx.y;
  if (p.rows != nullptr && row >= *p.rows) return;
  const int first = p.starts[row], last = p.starts[row + 1];
  const auto lse_of = [&](int part) { return p.lse[int64_t{part} * p.heads + head]; };

  float maximum = __uint_as_float(0xff800000U);
  for (int part = first + lane; part < last; part += 32) maximum = fmaxf(maximum, lse_of(part));
  for (int offset = 16; offset > 0; offset /= 2) {
    maximum = fmaxf(maximum, __shfl_xor_sync(kAll, maximum, offset));
  }
  // A row that sees no key has only weights of 0; an infinite maximum would make NaNs of them.
  if (maximum == __uint_as_float(0xff800000U)) maximum = 0.0F;

  float weight = 0.0F;
  Columns<kPerLane> sum = {};
#pragma unroll 4
  for (int part = first + warp; part < last; part += kWarps) {
    const float factor = exp2f(lse_of(part) - maximum);
    const auto values = *reinterpret_cast<const Columns<kPerLane>*>(
        p.partial + (int64_t{part} * p.heads + head) * kDim + lane * kPerLane);
    weight += factor;
    for (int i = 0; i < kPerLane; ++i) sum.lane[i] = fmaf(factor, values.lane[i], sum.lane[i]);
  }
  *reinterpret_cast<Columns<kPerLane>*>(&outputs[warp][lane * kPerLane]) = sum;
  if (lane == 0) weights[warp] = weight;
  __syncthreads();
  for (int column = threadIdx.x; column < kDim; column += 32 * kWarps) {
    float total = 0.0F, output = 0.0F;
    for (int w = 0; w < kWarps; ++w) {
      total += weights[w];
      output += outputs[w][column];
    }
    const int64_t at = (row * p.heads + head) * kDim + column;
    const float merged = total > 0.0F ? output / total : 0.0F;
    p.out[at] = merged;
    // Rows are whole blocks of 32 columns, so a place in all of them is one in the row.
    if (p.rounded != nullptr) p.rounded[product_place(at)] = __float2bfloat16_rn(merged);
  }
}

}  // namespace

void merge_attention(const MergeParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.max_rows), static_cast<unsigned>(p.heads));
  launch("merge_attention", p.dim == 64 ? merge_kernel<2> : merge_kernel<4>, grid, 32 * kWarps,
         stream, p);
}

}  // namespace tandem::cuda
