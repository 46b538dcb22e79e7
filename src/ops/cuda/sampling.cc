// Lists of all rows lie one after the other, filled row by row.
#include "ops/cuda/sampling.h"

#include <algorithm>

#include "base/check.h"
#include "ops/context.h"
#include "platform/cuda/error.h"

namespace tandem::ops {
namespace {

// Entries of all rows together. A row beyond them is sampled on the CPU, so these are room for
// everyday requests: the longest list that the server takes, and half a million tokens of history.
constexpr size_t kBiases = size_t{1} << 14, kBanned = size_t{1} << 12, kHistory = size_t{1} << 19;

bool has_penalties(const SampleParams& p) {
  return p.repetition_penalty != 1.0F || p.frequency_penalty != 0.0F || p.presence_penalty != 0.0F;
}

// Bits of SamplingOnDevice::seen_.
constexpr uint16_t kSeen = 0x8000, kCount = 0x7fff;

}  // namespace

SamplingOnDevice::SamplingOnDevice(int rows, int vocab)
    : vocab_(vocab),
      rows_(take<cuda::SampleRow>(static_cast<size_t>(rows))),
      biases_(take<cuda::TokenBias>(kBiases)),
      banned_(take<int32_t>(kBanned)),
      history_(take<cuda::TokenCount>(kHistory)),
      staged_(bytes_),
      results_(static_cast<size_t>(rows) * sizeof(cuda::SampledRow)),
      device_(bytes_),
      work_(static_cast<size_t>(rows) * ((static_cast<size_t>(vocab) + 3) / 4 * 4) * sizeof(float)),
      states_(static_cast<size_t>(rows) * sizeof(cuda::SampleState)),
      seen_(static_cast<size_t>(vocab)),
      wanted_(static_cast<size_t>(rows)),
      top_(cuda::kSampleTop) {
  TANDEM_CUDA_CALL(cudaMemset(states_.data(), 0, states_.bytes()));
}

template <typename T>
SamplingOnDevice::List<T> SamplingOnDevice::take(size_t room) {
  const List<T> list = {.offset = bytes_, .room = room};
  bytes_ += Workspace::aligned(room * sizeof(T));
  return list;
}

template <typename T>
void SamplingOnDevice::upload(const List<T>& list, cudaStream_t stream) const {
  if (list.used == 0) return;
  TANDEM_CUDA_CALL(cudaMemcpyAsync(device_.data() + list.offset, staged_.data() + list.offset,
                                   static_cast<size_t>(list.used) * sizeof(T),
                                   cudaMemcpyHostToDevice, stream));
}

bool SamplingOnDevice::add_biases(const SampleParams& params, cuda::SampleRow& row) {
  row.bias_begin = row.bias_end = biases_.used;
  const size_t count = params.logit_bias.size();
  if (static_cast<size_t>(biases_.used) + count > biases_.room) return false;
  bool twice = false;
  for (const LogitBias& bias : params.logit_bias) {
    if (bias.token < 0 || bias.token >= vocab_) continue;
    uint16_t& seen = seen_[static_cast<size_t>(bias.token)];
    twice |= seen != 0;
    seen = kSeen;
    on_host(biases_)[row.bias_end++] = {bias.token, bias.bias};
  }
  for (int32_t i = row.bias_begin; i < row.bias_end; ++i) {
    seen_[static_cast<size_t>(on_host(biases_)[i].token)] = 0;
  }
  if (twice) return false;
  biases_.used = row.bias_end;
  return true;
}

bool SamplingOnDevice::add_banned(const SampleParams& params, cuda::SampleRow& row) {
  row.banned_begin = row.banned_end = banned_.used;
  if (static_cast<size_t>(banned_.used) + params.banned.size() > banned_.room) return false;
  std::copy(params.banned.begin(), params.banned.end(), on_host(banned_) + banned_.used);
  banned_.used = row.banned_end = banned_.used + static_cast<int32_t>(params.banned.size());
  return true;
}

// Each token of the history once, with its occurrences in the output.
bool SamplingOnDevice::add_history(const SampleParams& params, cuda::SampleRow& row) {
  row.history_begin = row.history_end = history_.used;
  if (!has_penalties(params)) return true;
  if (static_cast<size_t>(history_.used) + params.history.size() > history_.room) return false;
  cuda::TokenCount* list = on_host(history_);
  const auto prompt = static_cast<size_t>(std::max(params.prompt_tokens, 0));
  for (size_t i = 0; i < params.history.size(); ++i) {
    const int32_t token = params.history[i];
    if (token < 0 || token >= vocab_) continue;
    uint16_t& seen = seen_[static_cast<size_t>(token)];
    if (seen == 0) list[row.history_end++] = {token, 0};
    seen |= kSeen;
    if (i >= prompt && (seen & kCount) != kCount) ++seen;
  }
  for (int32_t i = row.history_begin; i < row.history_end; ++i) {
    uint16_t& seen = seen_[static_cast<size_t>(list[i].token)];
    list[i].in_output = seen & kCount;
    seen = 0;
  }
  history_.used = row.history_end;
  return true;
}

void SamplingOnDevice::stage(std::span<const SampleParams> rows, std::span<uint8_t> taken,
                             cudaStream_t stream) {
  TANDEM_CHECK(rows.size() <= rows_.room && taken.size() == rows.size(), "{} rows of {}",
               rows.size(), rows_.room);
  biases_.used = banned_.used = history_.used = 0;
  bool changed = rows_.used != static_cast<int32_t>(rows.size());
  rows_.used = static_cast<int32_t>(rows.size());
  only_best_ = true;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SampleParams& p = rows[i];
    const bool draws = p.temperature > 0.0F;
    cuda::SampleRow row = {.seed = draws ? p.seed : 0,
                           .position = draws ? p.position : 0,
                           .temperature = p.temperature,
                           .top_k = p.top_k,
                           .top_p = p.top_p,
                           .min_p = p.min_p,
                           .repetition_penalty = p.repetition_penalty,
                           .frequency_penalty = p.frequency_penalty,
                           .presence_penalty = p.presence_penalty,
                           .top_logprobs = p.top_logprobs};
    const bool fits = add_biases(p, row) && add_banned(p, row) && add_history(p, row);
    taken[i] = fits ? 1 : 0;
    const bool as_it_is = row.bias_begin == row.bias_end && row.banned_begin == row.banned_end &&
                          !has_penalties(p) && p.top_logprobs < 0;
    only_best_ &= !fits || (!draws && as_it_is);
    wanted_[i] = p.top_logprobs;
    if (!fits) row = {};
    changed |= row != on_host(rows_)[i];
    on_host(rows_)[i] = row;
  }
  // Those of greedy rows are the same from step to step.
  if (changed) upload(rows_, stream);
  upload(biases_, stream);
  upload(banned_, stream);
  upload(history_, stream);
}

void SamplingOnDevice::sample(const float* logits, cudaStream_t stream) const {
  cuda::sample({.logits = logits,
                .logits_stride = vocab_,
                .rows = on_device(rows_),
                .biases = on_device(biases_),
                .banned = on_device(banned_),
                .history = on_device(history_),
                .work = work_.as<float>(),
                .states = states_.as<cuda::SampleState>(),
                .out = reinterpret_cast<cuda::SampledRow*>(results_.device()),
                .vocab = vocab_,
                .count = rows_.used,
                .only_best = only_best_},
               stream);
}

SampleResult SamplingOnDevice::result(int row) {
  const cuda::SampledRow& sampled = results_.as<cuda::SampledRow>()[row];
  const int wanted = wanted_[static_cast<size_t>(row)];
  SampleResult result = {.token = sampled.token};
  if (wanted < 0) return result;
  result.logprob = sampled.logprob;
  const auto count = static_cast<size_t>(std::min({wanted, cuda::kSampleTop, vocab_}));
  for (size_t i = 0; i < count; ++i) top_[i] = {sampled.top_tokens[i], sampled.top_logprobs[i]};
  result.top = std::span(top_).first(count);
  return result;
}

}  // namespace tandem::ops
