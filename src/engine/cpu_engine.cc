// Sizes memory at start; a step neither allocates nor logs.
#include "engine/cpu_engine.h"

#include <algorithm>

#include "base/error.h"
#include "engine/sizes.h"
#include "platform/topology.h"

namespace tandem::engine {
namespace {

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
  const ops::KvLayer form = cache_form(decoder, options, Device::kCpu);
  const size_t bytes = decoder.workspace_bytes(info.max_step_tokens, info.max_step_sequences, form,
                                               threads, decoder.all_layers());
  require_memory(decoder, form, info, bytes, options.other_memory_bytes);
  return bytes;
}

}  // namespace

CpuEngine::CpuEngine(const gguf::File& file, const Options& options)
    : pool_({.threads = options.threads, .pin = true, .numa = options.numa}),
      decoder_(models::create_decoder(file,
                                      std::max(options.max_step_tokens, options.max_step_sequences),
                                      {.nodes = pool_.nodes()})),
      info_(make_info(*decoder_, options, Device::kCpu)),
      workspace_(sized_workspace(*decoder_, options, info_, pool_.size())),
      cache_(cache_form(*decoder_, options, Device::kCpu), decoder_->config().layers,
             info_.num_pages),
      context_{pool_, cpu::select(options.cpu_isa), workspace_},
      places_(info_),
      outputs_(info_),
      sampler_(info_, pool_.size()) {
  const auto sequences = static_cast<size_t>(info_.max_step_sequences);
  const auto vocab = static_cast<size_t>(info_.vocab_size);
  logits_.resize(sequences * vocab);
}

models::ForwardBatch CpuEngine::lay_out(const Batch& batch) {
  outputs_.clear();
  int32_t token = 0;
  for (const SequenceSlice& slice : batch.sequences) {
    check_slice(slice, info_);
    token += slice.num_tokens;
    outputs_.add(slice, token - 1);
  }
  return {.ids = batch.tokens.data(),
          .where = places_.lay_out(batch),
          .output_rows = outputs_.tokens().data(),
          .outputs = static_cast<int64_t>(outputs_.tokens().size()),
          .logits = logits_.data()};
}

void CpuEngine::begin(const Batch& batch) {
  check_batch(batch, info_);
  batch_ = batch;
}

StepResult CpuEngine::finish() {
  const platform::ThreadPool::Burst burst(pool_);
  const models::ForwardBatch forward = lay_out(batch_);
  decoder_->forward(context_, forward, cache_.layers());
  const ops::Profile::Scope timed(context_.profile, ops::Op::kSample);
  return sampler_.sample(pool_, batch_, logits_, outputs_.of_slices());
}

}  // namespace tandem::engine
