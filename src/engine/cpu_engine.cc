// Sizes memory at start; step() neither allocates nor logs.
#include "engine/cpu_engine.h"

#include <algorithm>

#include "base/error.h"
#include "platform/topology.h"

namespace tandem::engine {
namespace {

constexpr size_t kMaxTopLogprobs = 20;  // OpenAI's limit

// Layout and values of a page's rows (ops/attention.h). To be raised with either: pages on disk
// outlive the program.
constexpr uint64_t kPageFormat = 1;

// The cache of one layer: the model's form with the page size and type chosen. Pages of 256 tokens
// are the original's for the small rows of MLA; 64 elsewhere keep the last, half-filled page of a
// request small.
ops::KvLayer cache_form(const models::Decoder& decoder, const Options& options) {
  ops::KvLayer form = decoder.cache_form();
  form.dtype = options.kv_type;
  form.page_size = options.page_size != 0 ? options.page_size : form.shared_values ? 256 : 64;
  if (form.page_size < cpu::kAttentionTile || form.page_size % cpu::kAttentionTile != 0) {
    throw Error("--page_size {}: must be a multiple of {}", form.page_size, cpu::kAttentionTile);
  }
  form.page_bytes = ops::kv_page_bytes(form);
  return form;
}

EngineInfo make_info(const models::Decoder& decoder, const Options& options) {
  if (options.cache_tokens < 1)
    throw Error("--cache_lens {}: must be positive", options.cache_tokens);
  const ops::KvLayer form = cache_form(decoder, options);
  const int32_t page_size = form.page_size;
  return {.vocab_size = decoder.config().vocab,
          .context_length = decoder.config().context,
          .page_size = page_size,
          .num_pages = (options.cache_tokens - 1) / page_size + 1,
          .max_step_tokens = std::max(options.max_step_tokens, options.max_step_sequences),
          .max_step_sequences = options.max_step_sequences,
          .page_bytes = form.page_bytes * decoder.config().layers,
          .page_format = kPageFormat << 32 | static_cast<uint64_t>(form.dtype)};
}

// Pages of the model's files do not count: the system may drop them.
void require_memory(const models::Decoder& decoder, const ops::KvLayer& form,
                    const EngineInfo& info, size_t workspace, int64_t other) {
  constexpr int64_t kMib = int64_t{1} << 20;
  const int64_t layers = decoder.config().layers;
  const int64_t weights = decoder.weight_memory_bytes();
  const int64_t cache = form.page_bytes * info.num_pages * layers;
  const int64_t available = platform::read_topology().available_bytes;
  if (weights + cache + other + static_cast<int64_t>(workspace) <= available) return;
  throw Error(
      "not enough memory: weights {} MiB, KV cache {} tokens x {} bytes = {} MiB, working memory "
      "{} MiB, host cache {} MiB, {} MiB are available; {}",
      weights / kMib, int64_t{info.num_pages} * info.page_size,
      form.page_bytes / form.page_size * layers, cache / kMib,
      workspace / static_cast<size_t>(kMib), other / kMib, available / kMib,
      weights < available ? "lower --cache_lens, --chunk_size or --host_cache_gb"
                          : "take a smaller model or fewer bits a weight");
}

size_t sized_workspace(const models::Decoder& decoder, const Options& options,
                       const EngineInfo& info, int threads) {
  const ops::KvLayer form = cache_form(decoder, options);
  const size_t bytes =
      decoder.workspace_bytes(info.max_step_tokens, info.max_step_sequences, form, threads);
  require_memory(decoder, form, info, bytes, options.other_memory_bytes);
  return bytes;
}

ops::SampleParams sample_params(const SequenceSlice& slice) {
  const SamplingParams& p = *slice.sampling;
  return {.temperature = p.temperature,
          .top_k = p.top_k,
          .top_p = p.top_p,
          .min_p = p.min_p,
          .repetition_penalty = p.repetition_penalty,
          .frequency_penalty = p.frequency_penalty,
          .presence_penalty = p.presence_penalty,
          .seed = p.seed,
          .position = slice.position + slice.num_tokens,
          .top_logprobs = p.top_logprobs,
          .logit_bias = p.logit_bias,
          .banned = slice.banned,
          .history = slice.history,
          .prompt_tokens = slice.prompt_tokens};
}

}  // namespace

CpuEngine::CpuEngine(const gguf::File& file, const Options& options)
    : pool_({.threads = options.threads, .pin = true, .numa = options.numa}),
      decoder_(models::create_decoder(
          file, std::max(options.max_step_tokens, options.max_step_sequences), pool_.nodes())),
      info_(make_info(*decoder_, options)),
      workspace_(sized_workspace(*decoder_, options, info_, pool_.size())),
      cache_(cache_form(*decoder_, options), decoder_->config().layers, info_.num_pages),
      context_{pool_, cpu::select(options.cpu_isa), workspace_} {
  const auto tokens = static_cast<size_t>(info_.max_step_tokens);
  const auto sequences = static_cast<size_t>(info_.max_step_sequences);
  const auto vocab = static_cast<size_t>(info_.vocab_size);
  positions_.resize(tokens);
  pages_.resize(tokens);
  output_rows_.reserve(sequences);
  output_of_.reserve(sequences);
  logits_.resize(sequences * vocab);
  tokens_.resize(sequences);
  top_.resize(sequences * kMaxTopLogprobs);
  for (int i = 0; i < pool_.size(); ++i) scratch_.emplace_back(info_.vocab_size);
}

models::ForwardBatch CpuEngine::lay_out(const Batch& batch) {
  output_rows_.clear();
  output_of_.clear();
  int32_t token = 0;
  for (const SequenceSlice& slice : batch.sequences) {
    const int32_t end = slice.position + slice.num_tokens;
    TANDEM_CHECK(slice.num_tokens > 0 && end <= info_.context_length, "{} tokens at {} of {}",
                 slice.num_tokens, slice.position, info_.context_length);
    TANDEM_CHECK(int64_t{end} <= static_cast<int64_t>(slice.pages.size()) * info_.page_size,
                 "{} tokens in {} pages", end, slice.pages.size());
    for (int32_t i = 0; i < slice.num_tokens; ++i, ++token) {
      positions_[static_cast<size_t>(token)] = slice.position + i;
      pages_[static_cast<size_t>(token)] = slice.pages.data();
    }
    output_of_.push_back(slice.sample ? static_cast<int32_t>(output_rows_.size()) : -1);
    if (slice.sample) output_rows_.push_back(token - 1);
  }
  return {.ids = batch.tokens.data(),
          .where = {.tokens = token, .positions = positions_.data(), .pages = pages_.data()},
          .output_rows = output_rows_.data(),
          .outputs = static_cast<int64_t>(output_rows_.size()),
          .logits = logits_.data()};
}

StepResult CpuEngine::step(const Batch& batch) {
  TANDEM_CHECK(static_cast<int32_t>(batch.tokens.size()) <= info_.max_step_tokens &&
                   static_cast<int32_t>(batch.sequences.size()) <= info_.max_step_sequences,
               "{} tokens of {} sequences in a step", batch.tokens.size(), batch.sequences.size());
  const platform::ThreadPool::Burst burst(pool_);
  const models::ForwardBatch forward = lay_out(batch);
  TANDEM_CHECK(forward.where.tokens == static_cast<int64_t>(batch.tokens.size()),
               "slices have {} tokens, the batch {}", forward.where.tokens, batch.tokens.size());
  decoder_->forward(context_, forward, cache_.layers());
  sample_slices(batch);
  return {.tokens = std::span(tokens_).first(batch.sequences.size())};
}

void CpuEngine::sample_slices(const Batch& batch) {
  const ops::Profile::Scope timed(context_.profile, ops::Op::kSample);
  const auto count = static_cast<int64_t>(batch.sequences.size());
  pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<size_t>(i);
      const SequenceSlice& slice = batch.sequences[index];
      SampledToken& sampled = tokens_[index];
      sampled = {};
      if (!slice.sample || slice.sampling == nullptr) continue;
      const ops::SampleResult result =
          ops::sample(logits(static_cast<int32_t>(i)).data(), info_.vocab_size,
                      sample_params(slice), scratch_[static_cast<size_t>(worker)]);
      sampled.token = result.token;
      sampled.logprob = result.logprob;
      TokenLogprob* top = top_.data() + index * kMaxTopLogprobs;
      std::copy(result.top.begin(), result.top.end(), top);
      sampled.top = {top, result.top.size()};
    }
  });
}

std::span<const float> CpuEngine::logits(int32_t sequence) const {
  const int32_t row = output_of_[static_cast<size_t>(sequence)];
  TANDEM_CHECK(row >= 0, "sequence {} of the last step has no logits", sequence);
  const auto vocab = static_cast<size_t>(info_.vocab_size);
  return {logits_.data() + static_cast<size_t>(row) * vocab, vocab};
}

}  // namespace tandem::engine
