// A block for each row. Candidates are counted and weighed in bins; each stage finds its bin by a
// prefix sum and sorts only what lies in it.
#include "base/check.h"
#include "base/philox.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/sample_block.cuh"

namespace tandem::cuda {
namespace {

using namespace sampling;

__device__ float finite_or_less(float logit) { return logit == logit ? logit : minus_infinity(); }

// One row: its settings, and its logits as they are at a stage.
struct Row {
  const SampleParams& p;
  const SampleRow& set;
  const float* raw;     // [V]
  const float* logits;  // [V] raw, or work where that differs
  float* work;          // [V] after bias and bans, then after penalties
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

// Fills s.list with the `count` best of the row at least, sorted; count <= vocab and kSampleTop.
__device__ void list_best(const Row& row, float highest, uint64_t count) {
  const int vocab = row.p.vocab;
  Shared& s = row.s;
  if (!isinf(highest)) {
    const Candidates c{row.logits, vocab, highest, minus_infinity(), 1.0F};
    fill_bins(c, s);
    const int i = 2 * static_cast<int>(threadIdx.x);
    const Entries entries = {{s.counts[i], s.counts[i + 1]}, {s.counts[i], s.counts[i + 1]}};
    const Crossing last = cross(entries, count, s);
    if (last.entry < kEntries && last.weight <= kEntries) {
      list_tokens(
          row.logits, vocab, [&](uint64_t, float logit) { return c.bin(logit) <= last.entry; }, s);
      return;
    }
  }
  const auto one = [](uint64_t, float) { return uint64_t{1}; };
  const uint64_t from = pair_at(row.logits, vocab, count, one, s);
  list_tokens(
      row.logits, vocab, [&](uint64_t pair, float) { return pair >= from; }, s);
}

// From the biased logits; reports the best tokens.
__device__ LogProbabilities report_best(const Row& row, SampledRow& out) {
  const float highest = logit_of_pair(best_pair(row.logits, row.p.vocab, row.s));
  double sum = 0.0;
  for_each_token(row.logits, row.p.vocab,
                 [&](int, float logit) { sum += exact_exp(logit - highest); });
  const LogProbabilities result{highest, exact_log(static_cast<float>(block_sum(sum, row.s)))};
  const int count = min(min(row.set.top_logprobs, kSampleTop), row.p.vocab);
  if (count <= 0) return result;
  list_best(row, highest, static_cast<uint64_t>(count));
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const uint64_t pair = row.s.list[i];
    out.top_tokens[i] = static_cast<int32_t>(index_of_pair(pair));
    out.top_logprobs[i] = result.of(logit_of_pair(pair));
  }
  __syncthreads();
  return result;
}

__device__ uint64_t total_weight(Shared& s) {
  uint64_t sums[3] = {s.weights[2 * threadIdx.x] + s.weights[2 * threadIdx.x + 1]};
  block_sum(sums, s);
  return sums[0];
}

__device__ Candidates candidates_of(const SampleRow& set, const float* logits, int vocab,
                                    float highest) {
  Candidates result{logits, vocab, highest, minus_infinity(), set.temperature};
  if (set.min_p > 0.0F) {
    result.lowest = highest + exact_log(fminf(set.min_p, 1.0F)) * set.temperature;
  }
  return result;
}

// A draw from the candidates, whose bins are filled.
__device__ int draw(const Row& row, const Candidates& candidates) {
  const SampleRow& set = row.set;
  uint64_t total = total_weight(row.s);
  if (set.top_k > 0) {
    const Found last = find(candidates, By::kCount, static_cast<uint64_t>(set.top_k), row.s);
    if (last.pair != 0) total = last.weight;
  }
  if (set.top_p < 1.0F) {
    const double part = static_cast<double>(fmaxf(set.top_p, 0.0F)) * static_cast<double>(total);
    const auto need = static_cast<uint64_t>(part);
    total = find(candidates, By::kWeight, need < 1 ? 1 : need, row.s).weight;
  }
  // floor(total * bits / 2^24) without the product's overflow
  const uint64_t bits = philox_bits(set.seed, set.position);
  const uint64_t target = (total >> 24) * bits + (((total & 0xffffffU) * bits) >> 24);
  return static_cast<int>(index_of_pair(find(candidates, By::kWeight, target + 1, row.s).pair));
}

__device__ bool has_penalties(const SampleRow& set) {
  return set.repetition_penalty != 1.0F || set.frequency_penalty != 0.0F ||
         set.presence_penalty != 0.0F;
}
__device__ bool has_bias(const SampleRow& set) {
  return set.bias_begin < set.bias_end || set.banned_begin < set.banned_end;
}
__device__ bool is_greedy(const SampleRow& set) { return !(set.temperature > 0.0F); }

// Rows whose logits stay as they are: many blocks find their best and fill their bins ahead.
__device__ bool is_plain(const SampleRow& set) {
  return !has_penalties(set) && !has_bias(set) && set.top_logprobs < 0;
}

constexpr int kChunk = 8 * kThreads;  // tokens of one of those blocks

// The block's chunk of its row, into the row's state.
__device__ void add_best(const SampleParams& p, Shared& s) {
  const int first = static_cast<int>(blockIdx.x) * kChunk;
  uint64_t best = 0;
  for_each_token(p.logits + blockIdx.y * p.logits_stride + first, min(kChunk, p.vocab - first),
                 [&](int i, float logit) {
                   const uint64_t pair = order_pair(logit, static_cast<uint32_t>(first + i));
                   best = pair > best ? pair : best;
                 });
  best = block_max(best, s);
  if (threadIdx.x == 0) {
    atomicMax(reinterpret_cast<unsigned long long*>(&p.states[blockIdx.y].best), best);
  }
}

__global__ void __launch_bounds__(kThreads) best_kernel(SampleParams p) {
  begin();
  __shared__ Shared s;
  if (is_plain(p.rows[blockIdx.y])) add_best(p, s);
}

// Greedy rows alone: the block of a row that is done last has its token.
__global__ void __launch_bounds__(kThreads) greedy_kernel(SampleParams p) {
  begin();
  __shared__ Shared s;
  add_best(p, s);
  if (threadIdx.x != 0) return;
  SampleState& state = p.states[blockIdx.y];
  __threadfence();
  if (atomicAdd(&state.blocks, 1U) + 1 < gridDim.x) return;
  const uint64_t best = atomicExch(reinterpret_cast<unsigned long long*>(&state.best), 0ULL);
  state.blocks = 0;
  p.out[blockIdx.y].token = static_cast<int32_t>(index_of_pair(best));
}

__global__ void __launch_bounds__(kThreads) bins_kernel(SampleParams p) {
  begin();
  __shared__ Shared s;
  const SampleRow& set = p.rows[blockIdx.y];
  SampleState& state = p.states[blockIdx.y];
  if (!is_plain(set) || is_greedy(set)) return;
  const float highest = logit_of_pair(state.best);
  if (isinf(highest)) return;
  const int first = static_cast<int>(blockIdx.x) * kChunk;
  fill_bins(candidates_of(set, p.logits + blockIdx.y * p.logits_stride + first,
                          min(kChunk, p.vocab - first), highest),
            s);
  for (int bin = threadIdx.x; bin < kEntries; bin += kThreads) {
    if (s.counts[bin] == 0) continue;
    atomicAdd(&state.counts[bin], s.counts[bin]);
    atomicAdd(reinterpret_cast<unsigned long long*>(&state.weights[bin]), s.weights[bin]);
  }
}

// Takes the bins over, and leaves zeros for the next call.
__device__ void take_bins(SampleState& state, Shared& s) {
  for (int bin = threadIdx.x; bin < kEntries; bin += kThreads) {
    s.counts[bin] = state.counts[bin];
    s.weights[bin] = state.weights[bin];
    state.counts[bin] = 0;
    state.weights[bin] = 0;
  }
  __syncthreads();
}

// The token of a row from its logits as they are; plain: with what the kernels ahead found.
__device__ int choose(const Row& row, bool plain) {
  SampleState& state = row.p.states[blockIdx.x];
  const uint64_t best = plain ? state.best : best_pair(row.logits, row.p.vocab, row.s);
  __syncthreads();
  if (plain && threadIdx.x == 0) state.best = 0;
  const float highest = logit_of_pair(best);
  if (is_greedy(row.set) || isinf(highest)) return static_cast<int>(index_of_pair(best));
  const Candidates candidates = candidates_of(row.set, row.logits, row.p.vocab, highest);
  if (plain) {
    take_bins(state, row.s);
  } else {
    fill_bins(candidates, row.s);
  }
  return draw(row, candidates);
}

// Rows begin at multiples of 16 bytes.
__device__ int64_t work_stride(int vocab) { return (int64_t{vocab} + 3) / 4 * 4; }

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleParams p) {
  begin();
  __shared__ Shared s;
  const SampleRow& set = p.rows[blockIdx.x];
  SampledRow& out = p.out[blockIdx.x];
  const bool changed = has_bias(set) || has_penalties(set);
  const bool logprobs = set.top_logprobs >= 0;
  const float* raw = p.logits + blockIdx.x * p.logits_stride;
  float* work = p.work + blockIdx.x * work_stride(p.vocab);
  const Row row{p, set, raw, changed ? work : raw, work, s};
  if (changed) apply_bias(row);
  LogProbabilities probabilities{};
  if (logprobs) probabilities = report_best(row, out);
  if (has_penalties(set)) apply_penalties(row);
  const int token = choose(row, is_plain(set));
  const float logit = logprobs ? biased_logit(row, token) : 0.0F;
  if (threadIdx.x != 0) return;
  out.token = token;
  if (logprobs) out.logprob = probabilities.of(logit);
}

}  // namespace

void sample(const SampleParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.vocab > 0 && p.vocab <= kMaxVocab, "vocabulary of {}", p.vocab);
  if (p.count == 0) return;
  const dim3 chunks(static_cast<unsigned>((p.vocab + kChunk - 1) / kChunk),
                    static_cast<unsigned>(p.count));
  if (p.only_best) return launch("sample", greedy_kernel, chunks, kThreads, stream, p);
  launch("sample", best_kernel, chunks, kThreads, stream, p);
  launch("sample", bins_kernel, chunks, kThreads, stream, p);
  launch("sample", sample_kernel, static_cast<unsigned>(p.count), kThreads, stream, p);
}

}  // namespace tandem::cuda
