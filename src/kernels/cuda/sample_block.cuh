// Reductions and selections over one row of logits by one block: what sampling is made of. All
// threads of the block call these together, and all get the result. Weights are whole numbers, so
// their sums have no order.
#pragma once

#include <cstdint>

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/sample.h"

namespace tandem::cuda::sampling {

inline constexpr int kThreads = 1024;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kEntries = 2 * kThreads;  // of the lists below: two a thread
static_assert(kEntries == kSampleBins);
inline constexpr float kBinsPerUnit = 64.0F;  // the bins reach down to exp(-32), below any weight
inline constexpr float kWeightOne =
    0x1.0p40F;                         // the largest weight: that of 2^22 tokens fits 64 bits
inline constexpr int kTokenBits = 22;  // even: two bits are found at a time
inline constexpr int kMaxVocab = 1 << kTokenBits;
inline constexpr unsigned kAll = 0xffffffffU;

struct Shared {
  uint32_t counts[kEntries];   // candidates in each bin
  uint64_t weights[kEntries];  // and their weight
  uint64_t list[kEntries];     // pairs (logit, token), best first
  uint64_t reduced[kWarps][3];
  uint64_t result[4];
  uint32_t listed;
  float found;
};

// The candidates of a row: how far below the best logit they may lie, and what they weigh.
struct Candidates {
  const float* logits;  // [V]
  int vocab;
  float highest;  // finite
  float lowest;
  float temperature;

  // Never a lower bin for a lower logit; kEntries: of no weight, or NaN.
  __device__ int bin(float logit) const {
    if (logit < lowest) return kEntries;
    const float below = (highest - logit) / temperature * kBinsPerUnit;
    return below < static_cast<float>(kEntries) ? static_cast<int>(below) : kEntries;
  }
  __device__ uint64_t weight(float logit) const {
    return static_cast<uint64_t>(exact_exp((logit - highest) / temperature) * kWeightOne);
  }
};

__device__ inline float logit_of_pair(uint64_t pair) {
  return from_order_key(static_cast<uint32_t>(pair >> 32));
}

// Calls body(token, logit) for the row's tokens, each thread for its own.
template <typename Body>
__device__ void for_each_token(const float* logits, int vocab, const Body& body) {
  int done = 0;
  if (reinterpret_cast<uintptr_t>(logits) % 16 == 0) {
    const auto* groups = reinterpret_cast<const float4*>(logits);
#pragma unroll 4
    for (int g = threadIdx.x; g < vocab / 4; g += kThreads) {
      const float4 four = groups[g];
      body(4 * g, four.x);
      body(4 * g + 1, four.y);
      body(4 * g + 2, four.z);
      body(4 * g + 3, four.w);
    }
    done = vocab / 4 * 4;
  }
#pragma unroll 4
  for (int i = done + threadIdx.x; i < vocab; i += kThreads) body(i, logits[i]);
}

__device__ inline uint64_t block_max(uint64_t value, Shared& s) {
  value = warp_max(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.reduced[threadIdx.x / 32][0] = value;
  __syncthreads();
  return warp_max(s.reduced[threadIdx.x % kWarps][0]);
}

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

// A sum of doubles by a fixed tree: over a thread's values in order, then as above.
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

// Two entries of a thread, entry 2 thread first: what is looked for, and its weight.
struct Entries {
  uint64_t measure[2], weight[2];
};
// The entry at which the measures add up to `need` > 0.
struct Crossing {
  int entry;                        // kEntries: they do not
  uint64_t measure_before, weight;  // sums: of the entries before it; up to it
};
__device__ inline Crossing cross(const Entries& e, uint64_t need, Shared& s) {
  uint64_t sums[2] = {e.measure[0] + e.measure[1], e.weight[0] + e.weight[1]};
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (uint64_t& sum : sums) {
    for (unsigned offset = 1; offset < 32; offset *= 2) {
      const uint64_t other = __shfl_up_sync(kAll, sum, offset);
      if (lane >= offset) sum += other;
    }
  }
  __syncthreads();
  if (lane == 31) {
    s.reduced[warp][0] = sums[0];
    s.reduced[warp][1] = sums[1];
  }
  if (threadIdx.x == 0) s.result[0] = kEntries;
  __syncthreads();
  uint64_t measure = sums[0] - e.measure[0] - e.measure[1];  // before this thread's entries
  uint64_t weight = sums[1] - e.weight[0] - e.weight[1];
  for (unsigned w = 0; w < warp; ++w) {
    measure += s.reduced[w][0];
    weight += s.reduced[w][1];
  }
  for (int i = 0; i < 2; ++i) {
    weight += e.weight[i];
    if (measure < need && measure + e.measure[i] >= need) {
      s.result[0] = 2 * threadIdx.x + static_cast<unsigned>(i);
      s.result[1] = measure;
      s.result[2] = weight;
    }
    measure += e.measure[i];
  }
  __syncthreads();
  return {static_cast<int>(s.result[0]), s.result[1], s.result[2]};
}

// Counts and weighs the candidates in bins.
__device__ inline void fill_bins(const Candidates& c, Shared& s) {
  __syncthreads();
  for (int bin = threadIdx.x; bin < kEntries; bin += kThreads) {
    s.counts[bin] = 0;
    s.weights[bin] = 0;
  }
  __syncthreads();
  for_each_token(c.logits, c.vocab, [&](int, float logit) {
    const int bin = c.bin(logit);
    if (bin == kEntries) return;
    atomicAdd(&s.counts[bin], 1U);
    atomicAdd(reinterpret_cast<unsigned long long*>(&s.weights[bin]), c.weight(logit));
  });
  __syncthreads();
}

// Sorts s.list[0, n), largest first, and fills up with zeros: a bitonic network over the next power
// of two.
__device__ inline void sort_list(uint32_t n, Shared& s) {
  uint32_t size = 2;
  while (size < n) size *= 2;
  for (uint32_t i = n + threadIdx.x; i < kEntries; i += kThreads) s.list[i] = 0;
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

// Fills s.list, sorted, with the pairs that keep(pair, logit) accepts: kEntries at most.
template <typename Keep>
__device__ void list_tokens(const float* logits, int vocab, const Keep& keep, Shared& s) {
  __syncthreads();
  if (threadIdx.x == 0) s.listed = 0;
  __syncthreads();
  for_each_token(logits, vocab, [&](int token, float logit) {
    const uint64_t pair = order_pair(logit, static_cast<uint32_t>(token));
    if (keep(pair, logit)) s.list[atomicAdd(&s.listed, 1U)] = pair;
  });
  __syncthreads();
  sort_list(s.listed, s);
}

// The pair at which the measures of the row's pairs, best first, add up to `need`; they must do so.
// Two bits of the answer come from one pass over the row: it is the largest value whose pairs from
// it up still measure enough.
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
      at |= (~uint64_t{0} >> 32) & ~uint64_t{kMaxVocab - 1};
      shift = kTokenBits;
    }
  }
  return at;
}

enum class By : uint8_t { kCount, kWeight };

// Where the candidates, best first, add up to `need` > 0 by count or weight.
struct Found {
  uint64_t pair;    // 0: they do not
  uint64_t weight;  // of the candidates up to it
};
__device__ inline Found find(const Candidates& c, By by, uint64_t need, Shared& s) {
  const auto entries_of = [&](const auto& count_and_weight) {
    Entries e;
    for (int i = 0; i < 2; ++i) {
      const auto [count, weight] = count_and_weight(2 * static_cast<int>(threadIdx.x) + i);
      e.measure[i] = by == By::kCount ? count : weight;
      e.weight[i] = weight;
    }
    return e;
  };
  struct CountAndWeight {
    uint64_t count, weight;
  };
  const Crossing bins = cross(entries_of([&](int bin) {
                                return CountAndWeight{s.counts[bin], s.weights[bin]};
                              }),
                              need, s);
  if (bins.entry == kEntries) return {.pair = 0, .weight = 0};
  const uint64_t rest = need - bins.measure_before;
  const uint64_t weight_before = bins.weight - s.weights[bins.entry];
  if (s.counts[bins.entry] <= kEntries) {
    list_tokens(
        c.logits, c.vocab, [&](uint64_t, float logit) { return c.bin(logit) == bins.entry; }, s);
    const Crossing token = cross(entries_of([&](int i) {
                                   const uint64_t pair = s.list[i];
                                   return pair == 0
                                              ? CountAndWeight{0, 0}
                                              : CountAndWeight{1, c.weight(logit_of_pair(pair))};
                                 }),
                                 rest, s);
    return {.pair = s.list[token.entry], .weight = weight_before + token.weight};
  }
  // More tokens in one bin than the list holds: nearly equal ones, or a very high temperature.
  const auto measure = [&](uint64_t, float logit) {
    if (c.bin(logit) != bins.entry) return uint64_t{0};
    return by == By::kCount ? uint64_t{1} : c.weight(logit);
  };
  const uint64_t pair = pair_at(c.logits, c.vocab, rest, measure, s);
  uint64_t sums[3] = {};
  for_each_token(c.logits, c.vocab, [&](int token, float logit) {
    const bool counts = order_pair(logit, static_cast<uint32_t>(token)) >= pair;
    if (counts && c.bin(logit) == bins.entry) sums[0] += c.weight(logit);
  });
  block_sum(sums, s);
  return {.pair = pair, .weight = weight_before + sums[0]};
}

}  // namespace tandem::cuda::sampling
