// Reductions and selections over one row of logits by one block: what sampling is made of. All
// threads of the block call these together, and all get the result.
#pragma once

#include <cstdint>

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/sample.h"

namespace tandem::cuda::sampling {

inline constexpr int kThreads = 1024;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kBins = 2048;
inline constexpr float kBinsPerLogit =
    64.0F;  // the bins reach 32 below the largest logit: exp(-32) = 1e-14
inline constexpr int kTokenBits = 22;  // even: two bits are found at a time
inline constexpr int kMaxVocab = 1 << kTokenBits;
inline constexpr unsigned kAll = 0xffffffffU;

struct Shared {
  union {
    uint64_t list[kSampleList];  // pairs (logit, token), best first
    uint32_t bins[kBins];        // how many tokens lie so far below the best
  };
  float weights[kSampleList];
  uint64_t reduced[kWarps][3];
  uint64_t result[3];
  uint32_t listed;
  float found;
};

// Calls body(token, logit) for the row's tokens, each thread for its own.
template <typename Body>
__device__ void for_each_token(const float* logits, int vocab, const Body& body) {
#pragma unroll 4
  for (int i = threadIdx.x; i < vocab; i += kThreads) body(i, logits[i]);
}

__device__ inline uint64_t block_max(uint64_t value, Shared& s) {
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.reduced[threadIdx.x / 32][0] = value;
  __syncthreads();
  return warp_max(s.reduced[threadIdx.x % kWarps][0]);
}

// Sums of whole numbers, whose order does not matter.
__device__ inline void block_sum(uint64_t (&values)[3], Shared& s) {
  __syncthreads();
  for (int v = 0; v < 3; ++v) {
    uint64_t sum = values[v];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
    if (threadIdx.x % 32 == 0) s.reduced[threadIdx.x / 32][v] = sum;
  }
  __syncthreads();
  for (int v = 0; v < 3; ++v) {
    uint64_t sum = s.reduced[threadIdx.x % kWarps][v];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
    values[v] = sum;
  }
}

// A sum of doubles by a fixed tree: over a thread's values in order, then as block_sum.
__device__ inline double block_sum(double value, Shared& s) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.reduced[threadIdx.x / 32][0] = __double_as_longlong(value);
  __syncthreads();
  double sum = __longlong_as_double(static_cast<long long>(s.reduced[threadIdx.x % kWarps][0]));
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
  return sum;
}

// The best pair of the row.
__device__ inline uint64_t best_pair(const float* logits, int vocab, Shared& s) {
  uint64_t best = 0;
  for_each_token(logits, vocab, [&](int token, float logit) {
    const uint64_t pair = order_pair(logit, static_cast<uint32_t>(token));
    best = pair > best ? pair : best;
  });
  return block_max(best, s);
}

// The pair at which the measures of the row's pairs, from the best down, add up to `need`; they
// must do so. Two bits of the answer come from one pass over the row: the largest value whose pairs
// from it up still measure enough.
template <typename Measure>
__device__ uint64_t pair_at(const float* logits, int vocab, uint64_t need, const Measure& measure,
                            Shared& s) {
  uint64_t at = 0;
  for (int shift = 62; shift >= 0; shift -= 2) {
    const uint64_t step = uint64_t{1} << shift;
    uint64_t sums[3] = {};  // of pairs from at + step, at + 2 step, at + 3 step
    for_each_token(logits, vocab, [&](int token, float logit) {
      const uint64_t pair = order_pair(logit, static_cast<uint32_t>(token));
      if (pair < at + step) return;
      const uint64_t value = measure(pair, logit);
      sums[0] += value;
      sums[1] += pair >= at + 2 * step ? value : 0;
      sums[2] += pair >= at + 3 * step ? value : 0;
    });
    block_sum(sums, s);
    const int steps = sums[2] >= need ? 3 : sums[1] >= need ? 2 : sums[0] >= need ? 1 : 0;
    at += static_cast<uint64_t>(steps) * step;
    if (shift == 32) {  // the upper bits of every ~token are set
      at |= ~uint64_t{0} >> 32 & ~uint64_t{kMaxVocab - 1};
      shift = kTokenBits;
    }
  }
  return at;
}

// Sorts s.list[0, n), largest first: a bitonic network over the next power of two.
__device__ inline void sort_list(uint32_t n, Shared& s) {
  uint32_t size = 2;
  while (size < n) size *= 2;
  for (uint32_t i = n + threadIdx.x; i < size; i += kThreads) s.list[i] = 0;
  __syncthreads();
  for (uint32_t run = 2; run <= size; run *= 2) {
    for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
      for (uint32_t i = threadIdx.x; i < size / 2; i += kThreads) {
        const uint32_t low = 2 * i - i % distance, high = low + distance;
        const bool descending = (low & run) == 0;
        const uint64_t a = s.list[low], b = s.list[high];
        if ((a < b) == descending) {
          s.list[low] = b;
          s.list[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

// Fills s.list with the row's pairs from `threshold` up, which must be at most kSampleList, sorted.
__device__ inline uint32_t list_from(const float* logits, int vocab, uint64_t threshold,
                                     Shared& s) {
  __syncthreads();
  if (threadIdx.x == 0) s.listed = 0;
  __syncthreads();
  for_each_token(logits, vocab, [&](int token, float logit) {
    const uint64_t pair = order_pair(logit, static_cast<uint32_t>(token));
    if (pair >= threshold) s.list[atomicAdd(&s.listed, 1U)] = pair;
  });
  __syncthreads();
  const uint32_t listed = s.listed;
  sort_list(listed, s);
  return listed;
}

// Which bin a logit belongs to; never a lower one for a lower logit.
__device__ inline int bin_of(float highest, float logit) {
  const float below = (highest - logit) * kBinsPerLogit;
  return below < static_cast<float>(kBins) ? static_cast<int>(below) : kBins;
}

// s.result = how many bins from the first fit the list as a whole, and how many tokens they hold.
// Two bins a thread.
__device__ inline void count_whole_bins(Shared& s) {
  static_assert(kBins == 2 * kThreads);
  const uint32_t first = s.bins[2 * threadIdx.x], second = s.bins[2 * threadIdx.x + 1];
  uint32_t prefix = first + second;  // of this thread's bins and those before, in the warp
  for (unsigned offset = 1; offset < 32; offset *= 2) {
    const uint32_t other = __shfl_up_sync(kAll, prefix, offset);
    if (threadIdx.x % 32 >= offset) prefix += other;
  }
  if (threadIdx.x % 32 == 31) s.reduced[threadIdx.x / 32][0] = prefix;
  __syncthreads();
  uint32_t before = prefix - first - second;
  for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) {
    before += static_cast<uint32_t>(s.reduced[warp][0]);
  }
  const auto fits = [](uint32_t tokens) { return tokens <= kSampleList; };
  const uint32_t between = before + first, after = between + second;
  if (fits(before) && !fits(between)) {
    s.result[0] = 2 * threadIdx.x;
    s.result[1] = before;
  } else if (fits(between) && !fits(after)) {
    s.result[0] = 2 * threadIdx.x + 1;
    s.result[1] = between;
  } else if (threadIdx.x == kThreads - 1 && fits(after)) {
    s.result[0] = kBins;
    s.result[1] = after;
  }
  __syncthreads();
}

// Fills s.list with the best of the row, sorted: at least `need` of them (need <= kSampleList and
// vocab), and as many as whole bins hold. A finite `highest` is the largest logit. Returns how
// many.
__device__ inline uint32_t list_best(const float* logits, int vocab, float highest, uint32_t need,
                                     Shared& s) {
  __syncthreads();
  for (int bin = threadIdx.x; bin < kBins; bin += kThreads) s.bins[bin] = 0;
  __syncthreads();
  for_each_token(logits, vocab, [&](int, float logit) {
    const int bin = bin_of(highest, logit);
    if (bin < kBins && logit == logit) atomicAdd(&s.bins[bin], 1U);
  });
  __syncthreads();
  count_whole_bins(s);
  const int bins = static_cast<int>(s.result[0]);
  if (s.result[1] < need) {
    const auto one = [](uint64_t, float) { return uint64_t{1}; };
    return list_from(logits, vocab, pair_at(logits, vocab, need, one, s), s);
  }
  __syncthreads();
  if (threadIdx.x == 0) s.listed = 0;
  __syncthreads();
  for_each_token(logits, vocab, [&](int token, float logit) {
    if (bin_of(highest, logit) < bins && logit == logit) {
      s.list[atomicAdd(&s.listed, 1U)] = order_pair(logit, static_cast<uint32_t>(token));
    }
  });
  __syncthreads();
  const uint32_t listed = s.listed;
  sort_list(listed, s);
  return listed;
}

}  // namespace tandem::cuda::sampling
