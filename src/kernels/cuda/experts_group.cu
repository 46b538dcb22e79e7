// A stable counting sort in one block, and the sum over a token's experts.
//
// Up to 1024 (token, rank) pairs, a decode step: experts_group.cuh. More: each warp owns a run of
// neighbouring pairs, so the order within an expert is that of the pairs: 1. pairs per warp and
// expert  2. sums over warps, then over experts  3. slots.
#include <algorithm>

#include "kernels/cuda/experts_group.cuh"
#include "kernels/cuda/experts_sum.cuh"
#include "kernels/cuda/launch.cuh"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 32;
constexpr int kFewPairs = 1024;

// Exclusive sums of v[0, n) in place, by one warp; returns the total.
__device__ int sum_before(int* v, int n, int lane) {
  int before = 0;
  for (int first = 0; first < n; first += 32) {
    const int own = first + lane < n ? v[first + lane] : 0;
    int sum = own;
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(0xffffffffU, sum, distance);
      if (lane >= distance) sum += other;
    }
    if (first + lane < n) v[first + lane] = before + sum - own;
    before += __shfl_sync(0xffffffffU, sum, 31);
  }
  return before;
}

__global__ void __launch_bounds__(kWarps * 32) group_kernel(GroupParams p) {
  extern __shared__ int counts[];                 // [kWarps, E] pairs before a warp's in the expert
  int* first_slot = counts + kWarps * p.experts;  // [E]
  int* first_group = first_slot + p.experts;      // [E]
  int* tokens_of = first_group + p.experts;       // [E]
  begin();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pairs = p.tokens * p.used;
  const int run = (pairs + kWarps * 32 - 1) / (kWarps * 32) * 32;
  const int begin = min(warp * run, pairs), end = min(begin + run, pairs);
  int* count = counts + warp * p.experts;
  for (int e = lane; e < p.experts; e += 32) count[e] = 0;
  __syncwarp();

  // f(pair or -1, expert, pairs of the same expert before it in this run), and counts on.
  const auto walk = [&](const auto& f) {
    for (int first = begin; first < end; first += 32) {
      const int i = first + lane;
      int expert = i < end ? p.ids[i] : -1;
      if (expert < 0 || expert >= p.experts) expert = -1;
      const unsigned same = __match_any_sync(0xffffffffU, expert);
      const int rank = __popc(same & ((1U << lane) - 1U));
      const int before = expert < 0 ? 0 : count[expert];
      __syncwarp();
      if (expert >= 0 && rank == 0) count[expert] = before + __popc(same);
      __syncwarp();
      if (i < end) f(i, expert, before + rank);
    }
  };
  walk([](int, int, int) {});
  __syncthreads();
  for (int e = threadIdx.x; e < p.experts; e += kWarps * 32) {
    int sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const int n = counts[w * p.experts + e];
      counts[w * p.experts + e] = sum;
      sum += n;
    }
    tokens_of[e] = first_slot[e] = sum;
    first_group[e] = (sum + p.group_tokens - 1) / p.group_tokens;
  }
  __syncthreads();
  if (warp == 0) sum_before(first_slot, p.experts, lane);
  if (warp == 1) {
    const int groups = sum_before(first_group, p.experts, lane);
    if (lane == 0) *p.group_count = groups;
  }
  __syncthreads();
  walk([&](int i, int expert, int before) {
    const int slot = expert < 0 ? -1 : first_slot[expert] + before;
    p.slot_of[i] = slot;
    if (slot >= 0) p.slot_token[slot] = i / p.used;
  });
  for (int e = threadIdx.x; e < p.experts; e += kWarps * 32) {
    for (int at = 0, i = first_group[e]; at < tokens_of[e]; at += p.group_tokens, ++i) {
      p.groups[i] = {e, first_slot[e] + at, min(p.group_tokens, tokens_of[e] - at), 0};
    }
  }
}

__global__ void __launch_bounds__(kFewPairs) group_few_kernel(GroupParams p) {
  __shared__ GroupScratch<kFewPairs> scratch;
  begin();
  list_groups(p, scratch);
}

__global__ void combine_kernel(ExpertSums p) {
  begin();
  const int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  const int64_t t = blockIdx.y;
  if (at >= p.width) return;
  const float4 sum = sum_of_experts<float4>(p, t, at);
  auto* residual = reinterpret_cast<float4*>(p.residual + t * p.width + at);
  const float4 old = *residual;
  *residual = {old.x + sum.x, old.y + sum.y, old.z + sum.z, old.w + sum.w};
}

}  // namespace

int64_t most_groups(int tokens, int used, int experts, int group_tokens) {
  const int64_t pairs = int64_t{tokens} * used;
  return std::min(pairs, experts + pairs / group_tokens);
}

void group_tokens(const GroupParams& params, cudaStream_t stream) {
  const int pairs = params.tokens * params.used;
  if (pairs <= kFewPairs) {
    launch_sharing("group_few_kernel", group_few_kernel, 1, (pairs + 31) / 32 * 32, 0, stream,
                   params);
    return;
  }
  const int bytes = (kWarps + 3) * params.experts * 4;
  cudaFuncSetAttribute(group_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  launch_sharing("group_kernel", group_kernel, 1, kWarps * 32, bytes, stream, params);
}

void combine_experts(const ExpertSums& params, cudaStream_t stream) {
  if (params.tokens == 0) return;
  const dim3 grid(static_cast<unsigned>((params.width / 4 + 127) / 128),
                  static_cast<unsigned>(params.tokens));
  launch_sharing("combine_kernel", combine_kernel, grid, 128, 0, stream, params);
}

}  // namespace tandem::cuda
