// A block for each row. Its best candidates are sorted in shared memory, where one thread adds
// their weights up in order, as the CPU does; a draw that falls below them is found by bisection
// over the whole row.
#include "base/check.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/sample_block.cuh"

namespace tandem::cuda {
namespace {

using namespace sampling;

constexpr float kWeightOne =
    0x1.0p40F;  // a weight of 1 as a whole number; 2^22 tokens' sum fits 64 bits

// Philox4x32-10 (Salmon et al., SC'11) of (seed, position): 24 random bits, as ops/sample.cc.
__device__ uint32_t random_bits(uint64_t seed, int32_t position) {
  uint32_t c0 = static_cast<uint32_t>(position), c1 = 0, c2 = 0, c3 = 0;
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53U} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c0 >> 8;
}

__device__ float finite_or_less(float logit) { return logit == logit ? logit : minus_infinity(); }

// One row: its settings, and its logits as they are at a stage.
struct Row {
  const SampleParams& p;
  const SampleRow& set;
  const float* raw;  // [V]
  float* work;       // [V] after bias and bans, then after penalties
  Shared& s;

  __device__ bool in_range(int token) const { return token >= 0 && token < p.vocab; }
};

__device__ void apply_bias(const Row& row) {
  for_each_token(row.raw, row.p.vocab,
                 [&](int token, float logit) { row.work[token] = finite_or_less(logit); });
  __syncthreads();
  for (int i = row.set.bias_begin + threadIdx.x; i < row.set.bias_end; i += kThreads) {
    const TokenBias& bias = row.p.biases[i];
    if (row.in_range(bias.token)) row.work[bias.token] += bias.bias;
  }
  __syncthreads();
  for (int i = row.set.banned_begin + threadIdx.x; i < row.set.banned_end; i += kThreads) {
    const int token = row.p.banned[i];
    if (row.in_range(token)) row.work[token] = minus_infinity();
  }
  __syncthreads();
}

__device__ void apply_penalties(const Row& row) {
  const SampleRow& set = row.set;
  __syncthreads();
  for (int i = set.history_begin + threadIdx.x; i < set.history_end; i += kThreads) {
    const TokenCount& seen = row.p.history[i];
    if (!row.in_range(seen.token)) continue;
    float logit = row.work[seen.token];
    logit = logit > 0.0F ? logit / set.repetition_penalty : logit * set.repetition_penalty;
    const auto occurrences = static_cast<float>(seen.in_output);
    if (occurrences != 0.0F) {
      logit -= set.frequency_penalty * occurrences + set.presence_penalty;
    }
    row.work[seen.token] = logit;
  }
  __syncthreads();
}

// The logit of one token after bias and bans.
__device__ float biased_logit(const Row& row, int token) {
  __syncthreads();
  if (threadIdx.x == 0) row.s.found = finite_or_less(row.raw[token]);
  __syncthreads();
  for (int i = row.set.bias_begin + threadIdx.x; i < row.set.bias_end; i += kThreads) {
    if (row.p.biases[i].token == token) row.s.found += row.p.biases[i].bias;
  }
  __syncthreads();
  for (int i = row.set.banned_begin + threadIdx.x; i < row.set.banned_end; i += kThreads) {
    if (row.p.banned[i] == token) row.s.found = minus_infinity();
  }
  __syncthreads();
  return row.s.found;
}

struct LogProbabilities {
  float highest, log_sum;
  __device__ float of(float logit) const { return logit - highest - log_sum; }
};

// From the biased logits in work; reports the best tokens.
__device__ LogProbabilities report_best(const Row& row, SampledRow& out) {
  const float highest =
      from_order_key(static_cast<uint32_t>(best_pair(row.work, row.p.vocab, row.s) >> 32));
  double sum = 0.0;
  for_each_token(row.work, row.p.vocab,
                 [&](int, float logit) { sum += exact_exp(logit - highest); });
  const LogProbabilities result{highest, exact_log(static_cast<float>(block_sum(sum, row.s)))};
  const int count = min(min(row.set.top_logprobs, kSampleTop), row.p.vocab);
  if (count <= 0) return result;
  const auto one = [](uint64_t, float) { return uint64_t{1}; };
  const auto need = static_cast<uint64_t>(count);
  if (isinf(highest)) {
    list_from(row.work, row.p.vocab, pair_at(row.work, row.p.vocab, need, one, row.s), row.s);
  } else {
    list_best(row.work, row.p.vocab, highest, static_cast<uint32_t>(need), row.s);
  }
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const uint64_t pair = row.s.list[i];
    out.top_tokens[i] = static_cast<int32_t>(index_of_pair(pair));
    out.top_logprobs[i] = result.of(from_order_key(static_cast<uint32_t>(pair >> 32)));
  }
  return result;
}

// What bounds the candidates of a draw.
struct Bounds {
  float highest, lowest;  // logits
  uint32_t most;          // candidates
  float temperature;

  __device__ float weight(float logit) const { return exact_exp((logit - highest) / temperature); }
};

// The draw among the candidates s.list[0, kept), by one thread. complete: there are no others;
// rest_total: the weight of all otherwise. Returns a token, or -1 where it lies beyond the list.
__device__ int draw_from_list(const SampleRow& set, uint32_t kept, bool complete, float rest_total,
                              const Shared& s) {
  float total = rest_total;
  if (complete) {
    total = 0.0F;
    for (uint32_t i = 0; i < kept; ++i) total += s.weights[i];
  }
  if (set.top_p < 1.0F) {
    float held = 0.0F;
    uint32_t taken = 0;
    bool reached = false;
    while (taken < kept && !reached) {
      held += s.weights[taken++];
      reached = held >= set.top_p * total;
    }
    if (!reached && !complete) return -1;
    complete = true;
    kept = taken;
    total = held;
  }
  const float target = static_cast<float>(random_bits(set.seed, set.position)) * 0x1.0p-24F * total;
  float passed = 0.0F;
  for (uint32_t i = 0; i < kept; ++i) {
    passed += s.weights[i];
    if (target < passed) return static_cast<int>(index_of_pair(s.list[i]));
  }
  return complete ? static_cast<int>(index_of_pair(s.list[kept - 1])) : -1;
}

// The same draw with weights as whole numbers, over the row.
__device__ int draw_by_bisection(const Row& row, const Bounds& bounds) {
  uint64_t from = static_cast<uint64_t>(order_key(bounds.lowest)) << 32;
  const auto one = [&](uint64_t pair, float) { return uint64_t{pair >= from}; };
  const auto weight = [&](uint64_t pair, float logit) {
    return pair >= from ? static_cast<uint64_t>(bounds.weight(logit) * kWeightOne) : uint64_t{0};
  };
  const auto total_of = [&](const auto& measure) {
    uint64_t sums[3] = {};
    for_each_token(row.work, row.p.vocab, [&](int token, float logit) {
      sums[0] += measure(order_pair(logit, static_cast<uint32_t>(token)), logit);
    });
    block_sum(sums, row.s);
    return sums[0];
  };
  if (bounds.most != kAll && total_of(one) > bounds.most) {
    from = pair_at(row.work, row.p.vocab, bounds.most, one, row.s);
  }
  uint64_t total = total_of(weight);
  if (row.set.top_p < 1.0F) {
    const auto part =
        static_cast<uint64_t>(static_cast<double>(row.set.top_p) * static_cast<double>(total));
    const uint64_t need = part < 1 ? 1 : part;
    from = pair_at(row.work, row.p.vocab, need, weight, row.s);
    total = total_of(weight);
  }
  // floor(total * bits / 2^24) without the product's overflow
  const uint64_t bits = random_bits(row.set.seed, row.set.position);
  const uint64_t target = (total >> 24) * bits + (((total & 0xffffffU) * bits) >> 24);
  return static_cast<int>(index_of_pair(pair_at(row.work, row.p.vocab, target + 1, weight, row.s)));
}

__device__ int draw(const Row& row) {
  const SampleRow& set = row.set;
  Shared& s = row.s;
  const uint64_t best = best_pair(row.work, row.p.vocab, s);
  const float highest = from_order_key(static_cast<uint32_t>(best >> 32));
  if (isinf(highest)) return static_cast<int>(index_of_pair(best));

  // exp() of anything below the first bound is 0: it can never be drawn.
  Bounds bounds{highest, highest - 87.0F * set.temperature, kAll, set.temperature};
  if (set.min_p > 0.0F) {
    const float lowest = highest + exact_log(fminf(set.min_p, 1.0F)) * set.temperature;
    bounds.lowest = fmaxf(bounds.lowest, lowest);
  }
  if (set.top_k > 0) bounds.most = static_cast<uint32_t>(set.top_k);
  uint32_t need = min(bounds.most, static_cast<uint32_t>(kSampleList));
  if (bounds.most == kAll) need = 1;
  need = min(need, static_cast<uint32_t>(row.p.vocab));

  const uint32_t listed = list_best(row.work, row.p.vocab, highest, need, s);
  for (uint32_t i = threadIdx.x; i < listed; i += kThreads) {
    s.weights[i] = bounds.weight(from_order_key(static_cast<uint32_t>(s.list[i] >> 32)));
  }
  double sum = 0.0;
  uint64_t counts[3] = {};
  for_each_token(row.work, row.p.vocab, [&](int, float logit) {
    if (!(logit >= bounds.lowest)) return;
    sum += bounds.weight(logit);
    ++counts[0];
  });
  const auto total = static_cast<float>(block_sum(sum, s));
  block_sum(counts, s);
  uint32_t kept = 0;  // of the list
  for (uint32_t i = threadIdx.x; i < kSampleList; i += kThreads) {
    const bool keep = i < listed && i < bounds.most &&
                      from_order_key(static_cast<uint32_t>(s.list[i] >> 32)) >= bounds.lowest;
    kept += static_cast<uint32_t>(__syncthreads_count(keep));
  }
  const bool complete = kept == counts[0] || kept == bounds.most;
  const bool listed_enough = complete || bounds.most == kAll;
  __syncthreads();
  if (threadIdx.x == 0) {
    const int token = listed_enough ? draw_from_list(set, kept, complete, total, s) : -1;
    s.result[2] = static_cast<uint64_t>(static_cast<int64_t>(token));
  }
  __syncthreads();
  const auto token = static_cast<int>(static_cast<int64_t>(s.result[2]));
  return token >= 0 ? token : draw_by_bisection(row, bounds);
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleParams p) {
  __shared__ Shared s;
  const SampleRow& set = p.rows[blockIdx.x];
  SampledRow& out = p.out[blockIdx.x];
  const Row row{p, set, p.logits + blockIdx.x * p.logits_stride,
                p.work + blockIdx.x * int64_t{p.vocab}, s};
  const bool greedy = !(set.temperature > 0.0F);
  const bool penalties = set.repetition_penalty != 1.0F || set.frequency_penalty != 0.0F ||
                         set.presence_penalty != 0.0F;
  const bool biased = set.bias_begin < set.bias_end || set.banned_begin < set.banned_end;
  const bool logprobs = set.top_logprobs >= 0;
  if (greedy && !penalties && !biased && !logprobs) {
    const uint64_t best = best_pair(row.raw, p.vocab, s);
    if (threadIdx.x == 0) out.token = static_cast<int32_t>(index_of_pair(best));
    return;
  }
  apply_bias(row);
  LogProbabilities probabilities{};
  if (logprobs) probabilities = report_best(row, out);
  if (penalties) apply_penalties(row);
  const int token =
      greedy ? static_cast<int>(index_of_pair(best_pair(row.work, p.vocab, s))) : draw(row);
  const float logit = logprobs ? biased_logit(row, token) : 0.0F;
  if (threadIdx.x != 0) return;
  out.token = token;
  if (logprobs) out.logprob = probabilities.of(logit);
}

}  // namespace

void sample(const SampleParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.vocab > 0 && p.vocab <= kMaxVocab, "vocabulary of {}", p.vocab);
  if (p.count == 0) return;
  sample_kernel<<<static_cast<unsigned>(p.count), kThreads, 0, stream>>>(p);
  check_launch("sample");
}

}  // namespace tandem::cuda
