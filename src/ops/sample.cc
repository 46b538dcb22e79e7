// The stages of sampling, in the order of the header.
#include "ops/sample.h"

#include <algorithm>
#include <limits>

#include "base/philox.h"
#include "base/portable_math.h"

namespace tandem::ops {
namespace {

using Candidate = SampleScratch::Candidate;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr size_t kMaxTop = 20;

bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The lowest token among the largest logits; NaN never wins.
int32_t best_token(const float* logits, int32_t vocab) {
  int32_t best = 0;
  float highest = kMinusInfinity;
  for (int32_t i = 0; i < vocab; ++i) {
    if (logits[i] > highest) {
      highest = logits[i];
      best = i;
    }
  }
  return best;
}

// Raw logits with NaN gone, bias and bans applied. When everything is banned, nothing is.
void apply_bias(const float* logits, int32_t vocab, const SampleParams& params, float* out) {
  for (int32_t i = 0; i < vocab; ++i) out[i] = logits[i] == logits[i] ? logits[i] : kMinusInfinity;
  for (const LogitBias& bias : params.logit_bias) {
    if (bias.token >= 0 && bias.token < vocab) out[bias.token] += bias.bias;
  }
  for (const int32_t token : params.banned) {
    if (token >= 0 && token < vocab) out[token] = kMinusInfinity;
  }
}

bool has_penalties(const SampleParams& params) {
  return params.repetition_penalty != 1.0F || params.frequency_penalty != 0.0F ||
         params.presence_penalty != 0.0F;
}

void apply_penalties(const SampleParams& params, int32_t vocab, SampleScratch& scratch) {
  const auto in_range = [&](int32_t token) { return token >= 0 && token < vocab; };
  const auto prompt = static_cast<size_t>(std::max(params.prompt_tokens, 0));
  // A repeated token is penalised once: bit 15 of its count marks it as seen, the rest counts
  // output occurrences.
  constexpr uint16_t kSeen = 0x8000;
  for (size_t i = 0; i < params.history.size(); ++i) {
    const int32_t token = params.history[i];
    if (!in_range(token)) continue;
    uint16_t& count = scratch.counts[static_cast<size_t>(token)];
    if ((count & kSeen) == 0) {
      count |= kSeen;
      float& logit = scratch.logits[static_cast<size_t>(token)];
      logit = logit > 0.0F ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    }
    if (i >= prompt && (count & 0x7fff) != 0x7fff) ++count;
  }
  for (const int32_t token : params.history) {
    if (!in_range(token)) continue;
    uint16_t& count = scratch.counts[static_cast<size_t>(token)];
    const auto occurrences = static_cast<float>(count & 0x7fff);
    count = 0;  // also makes the second visit of a token a no-op
    if (occurrences == 0.0F) continue;
    scratch.logits[static_cast<size_t>(token)] -=
        params.frequency_penalty * occurrences + params.presence_penalty;
  }
}

// log of the sum of exp(logits), and the log probabilities of the chosen and the best tokens.
class LogProbabilities {
 public:
  LogProbabilities(const float* logits, int32_t vocab) : logits_(logits), vocab_(vocab) {
    highest_ = logits[best_token(logits, vocab)];
    float sum = 0.0F, partial = 0.0F;
    for (int32_t i = 0; i < vocab; ++i) {
      partial += portable_exp(logits[i] - highest_);
      if (i % 256 == 255) {  // partial sums keep the error of a long float sum small
        sum += partial;
        partial = 0.0F;
      }
    }
    log_sum_ = portable_log(sum + partial);
  }

  float of(int32_t token) const { return logits_[token] - highest_ - log_sum_; }

  void best(size_t count, std::vector<Candidate>& candidates,
            std::vector<TokenLogprob>& top) const {
    candidates.clear();
    for (int32_t i = 0; i < vocab_; ++i) candidates.push_back({i, logits_[i]});
    count = std::min({count, kMaxTop, candidates.size()});
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count),
                      candidates.end(), better);
    top.clear();
    for (size_t i = 0; i < count; ++i)
      top.push_back({candidates[i].token, of(candidates[i].token)});
  }

 private:
  const float* logits_;
  int32_t vocab_;
  float highest_;
  float log_sum_;
};

// Weights exp((logit - highest) / temperature) of candidates in order, as whole numbers of 2^-40;
// returns their sum. Whole numbers add up to the same in any order, so a device that sums in
// another order draws the same token. 2^23 tokens fit.
constexpr float kWeightOne = 0x1.0p40F;
constexpr float kNoWeight = 28.0F;  // exp(-28) is below 2^-40
uint64_t fill_weights(const SampleParams& params, const std::vector<Candidate>& candidates,
                      float highest, std::vector<uint64_t>& weights) {
  weights.clear();
  uint64_t sum = 0;
  for (const Candidate& c : candidates) {
    const float weight = portable_exp((c.logit - highest) / params.temperature);
    weights.push_back(static_cast<uint64_t>(weight * kWeightOne));
    sum += weights.back();
  }
  return sum;
}

// Keeps the candidates of top-k, then min-p; both need no order.
void shorten(const SampleParams& params, float highest, std::vector<Candidate>& candidates) {
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + params.top_k, candidates.end(),
                     better);
    candidates.resize(static_cast<size_t>(params.top_k));
  }
  if (params.min_p > 0.0F) {
    const float lowest = highest + portable_log(std::min(params.min_p, 1.0F)) * params.temperature;
    std::erase_if(candidates, [&](const Candidate& c) { return c.logit < lowest; });
  }
}

// Sorted candidates -> as many of the best as hold top_p of the weight, at least one.
void keep_top_p(const SampleParams& params, float highest, SampleScratch& scratch) {
  const uint64_t total = fill_weights(params, scratch.candidates, highest, scratch.weights);
  const double part =
      static_cast<double>(std::max(params.top_p, 0.0F)) * static_cast<double>(total);
  const uint64_t need = std::max<uint64_t>(1, static_cast<uint64_t>(part));
  uint64_t held = 0;
  size_t kept = 0;
  while (held < need) held += scratch.weights[kept++];
  scratch.candidates.resize(kept);
}

int32_t draw(const SampleParams& params, int32_t vocab, SampleScratch& scratch) {
  const int32_t best = best_token(scratch.logits.data(), vocab);
  const float highest = scratch.logits[static_cast<size_t>(best)];
  if (highest == kMinusInfinity || highest == std::numeric_limits<float>::infinity()) return best;
  std::vector<Candidate>& candidates = scratch.candidates;
  candidates.clear();
  // Anything lower has no weight: it can never be drawn.
  const float floor = highest - kNoWeight * params.temperature;
  for (int32_t i = 0; i < vocab; ++i) {
    const float logit = scratch.logits[static_cast<size_t>(i)];
    if (logit >= floor) candidates.push_back({i, logit});
  }
  shorten(params, highest, candidates);
  // Sorted always: the sum below then does not depend on how nth_element left the order.
  std::sort(candidates.begin(), candidates.end(), better);
  if (params.top_p < 1.0F) keep_top_p(params, highest, scratch);

  const uint64_t total = fill_weights(params, candidates, highest, scratch.weights);
  // floor(total * bits / 2^24), below total, without the product's overflow
  const uint64_t bits = philox_bits(params.seed, params.position);
  const uint64_t target = (total >> 24) * bits + (((total & 0xffffffU) * bits) >> 24);
  uint64_t passed = 0;
  size_t drawn = 0;
  while ((passed += scratch.weights[drawn]) <= target) ++drawn;
  return candidates[drawn].token;
}

}  // namespace

SampleScratch::SampleScratch(int32_t vocab)
    : logits(static_cast<size_t>(vocab)), counts(static_cast<size_t>(vocab)) {
  candidates.reserve(static_cast<size_t>(vocab));
  weights.reserve(static_cast<size_t>(vocab));
  top.reserve(kMaxTop);
}

SampleResult sample(const float* logits, int32_t vocab, const SampleParams& params,
                    SampleScratch& scratch) {
  const bool greedy = !(params.temperature > 0.0F);
  const bool untouched = params.logit_bias.empty() && params.banned.empty();
  if (greedy && untouched && !has_penalties(params) && params.top_logprobs < 0) {
    return {.token = best_token(logits, vocab)};
  }
  apply_bias(logits, vocab, params, scratch.logits.data());
  SampleResult result{.token = 0};
  if (params.top_logprobs < 0) {
    if (has_penalties(params)) apply_penalties(params, vocab, scratch);
    result.token = greedy ? best_token(scratch.logits.data(), vocab) : draw(params, vocab, scratch);
    return result;
  }
  // Log probabilities are those before penalties: keep what they need, then go on.
  const LogProbabilities log_probabilities(scratch.logits.data(), vocab);
  log_probabilities.best(static_cast<size_t>(params.top_logprobs), scratch.candidates, scratch.top);
  result.top = scratch.top;
  if (has_penalties(params)) {
    apply_penalties(params, vocab, scratch);
    result.token = greedy ? best_token(scratch.logits.data(), vocab) : draw(params, vocab, scratch);
    apply_bias(logits, vocab, params, scratch.logits.data());
  } else {
    result.token = greedy ? best_token(scratch.logits.data(), vocab) : draw(params, vocab, scratch);
  }
  result.logprob = log_probabilities.of(result.token);
  return result;
}

}  // namespace tandem::ops
