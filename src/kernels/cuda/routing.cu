// A warp for each token. Sums follow the CPU's 16 virtual lanes and their tree.
#include "base/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/routing.h"

namespace tandem::cuda {
namespace {

constexpr int kTokensPerBlock = 2;  // warps; a decode step's tokens then spread over the device
constexpr unsigned kAll = 0xffffffffU;
constexpr float kSmallestSum = 6.103515625e-5F;  // as moe/routing.cc

struct Shared {
  float probabilities[kMaxRoutedExperts];
  float scores[kMaxRoutedExperts];
  float groups[kMaxRoutedExperts];
};

// The CPU's softmax of x[0, n) in place (lanes/elementwise.inl.h), by one warp.
__device__ void softmax(float* x, int n, int lane) {
  float maximum = minus_infinity();
  for (int i = lane; i < n; i += 32) maximum = x[i] > maximum ? x[i] : maximum;
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(kAll, maximum, offset);
    maximum = other > maximum ? other : maximum;
  }
  for (int i = lane; i < n; i += 32) x[i] = exact_exp(x[i] - maximum);
  __syncwarp();
  float total = 0.0F;
  for (int i = lane % 16; i < n; i += 16) total = total + x[i];
  for (int offset = 8; offset > 0; offset /= 2) total += __shfl_xor_sync(kAll, total, offset);
  const float factor = 1.0F / total;
  __syncwarp();
  for (int i = lane; i < n; i += 32) x[i] = x[i] * factor;
  __syncwarp();
}

// The `count` largest of scores[0, n), best first: body(rank, index). Destroys the scores.
template <typename Body>
__device__ void best_of(float* scores, int n, int count, int lane, const Body& body) {
  const auto best_of_lane = [&] {
    uint64_t best = 0;
    for (int i = lane; i < n; i += 32) {
      // A taken score is marked by this NaN, which no score is.
      if (__float_as_uint(scores[i]) == 0xffffffffU) continue;
      const uint64_t pair = order_pair(scores[i], static_cast<uint32_t>(i));
      best = pair > best ? pair : best;
    }
    return best;
  };
  uint64_t mine = best_of_lane();
  for (int rank = 0; rank < count; ++rank) {
    const auto index = static_cast<int>(index_of_pair(warp_max(mine)));
    body(rank, index);
    if (index % 32 == lane) {
      scores[index] = __uint_as_float(0xffffffffU);
      mine = best_of_lane();
    }
  }
  __syncwarp();
}

__device__ float sum_of_two_largest(const float* scores, int n) {
  float first = minus_infinity(), second = minus_infinity();
  for (int i = 0; i < n; ++i) {
    if (scores[i] > first) {
      second = first;
      first = scores[i];
    } else if (scores[i] > second) {
      second = scores[i];
    }
  }
  return first + second;
}

// Takes the experts of all but the best groups out of the selection.
__device__ void keep_best_groups(const RouteParams& p, Shared& s, int lane) {
  const int size = p.experts / p.groups;
  for (int g = lane; g < p.groups; g += 32) {
    s.groups[g] = sum_of_two_largest(s.scores + g * size, size);
  }
  __syncwarp();
  best_of(s.groups, p.groups, p.groups_used, lane, [](int, int) {});
  for (int i = lane; i < p.experts; i += 32) {
    const bool kept = __float_as_uint(s.groups[i / size]) == 0xffffffffU;
    if (i / size < p.groups && !kept) s.scores[i] = minus_infinity();
  }
  __syncwarp();
}

// From the probabilities of the chosen to their weights, in place; K of them.
__device__ void finish_weights(const RouteParams& p, float* weights, int lane) {
  if (p.gating == Gating::kSoftmaxOfChosen) softmax(weights, p.used, lane);
  float sum = 1.0F;
  if (p.normalise) {
    sum = 0.0F;
    for (int i = 0; i < p.used; ++i) sum += weights[i];
    sum = sum < kSmallestSum ? kSmallestSum : sum;
  }
  __syncwarp();
  for (int i = lane; i < p.used; i += 32) {
    const float weight = p.normalise ? weights[i] / sum : weights[i];
    weights[i] = weight * p.scale;
  }
}

__global__ void __launch_bounds__(32 * kTokensPerBlock) route_kernel(RouteParams p) {
  begin();
  __shared__ Shared all[kTokensPerBlock];
  const int lane = threadIdx.x % 32;
  const int64_t t = blockIdx.x * int64_t{kTokensPerBlock} + threadIdx.x / 32;
  if (t >= p.tokens) return;
  Shared& s = all[threadIdx.x / 32];
  const bool padding = p.slots != nullptr && p.slots[t] < 0;  // used below: loads go side by side

  for (int e = lane; e < p.experts; e += 32) {
    const float logit = p.logits[t * p.experts + e];
    s.probabilities[e] = p.gating == Gating::kSigmoid ? exact_sigmoid(logit) : logit;
  }
  __syncwarp();
  if (padding) {
    for (int i = lane; i < p.used; i += 32) {
      p.ids[t * p.used + i] = -1;
      p.weights[t * p.used + i] = 0.0F;
    }
    return;
  }
  if (p.gating == Gating::kSoftmax) softmax(s.probabilities, p.experts, lane);
  for (int e = lane; e < p.experts; e += 32) {
    float score = s.probabilities[e];
    if (p.selection_bias != nullptr) score += p.selection_bias[e];
    s.scores[e] = score != score ? minus_infinity() : score;
  }
  __syncwarp();
  if (p.groups > p.groups_used) keep_best_groups(p, s, lane);

  float* chosen = s.groups;  // free again
  best_of(s.scores, p.experts, p.used, lane, [&](int rank, int index) {
    if (lane != 0) return;
    p.ids[t * p.used + rank] = index;
    chosen[rank] = s.probabilities[index];
  });
  finish_weights(p, chosen, lane);
  __syncwarp();
  for (int i = lane; i < p.used; i += 32) p.weights[t * p.used + i] = chosen[i];
}

}  // namespace

void route(const RouteParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.experts <= kMaxRoutedExperts && p.used <= p.experts, "{} of {} experts", p.used,
               p.experts);
  if (p.tokens == 0) return;
  const auto blocks = static_cast<unsigned>((p.tokens + kTokensPerBlock - 1) / kTokensPerBlock);
  launch("route", route_kernel, blocks, 32 * kTokensPerBlock, stream, p);
}

}  // namespace tandem::cuda
