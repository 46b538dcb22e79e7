// Page sizes and limits; checks of what the scheduler hands over.
#include "engine/sizes.h"

#include <algorithm>

#include "base/error.h"
#include "models/model_sizes.h"

namespace tandem::engine {
namespace {

// Layout and values of a page's rows (ops/attention.h, kernels/cuda/kv_cache.h). To be raised with
// either: pages on disk outlive the program.
constexpr uint64_t kPageFormat = 1;

}  // namespace

ops::KvLayer cache_form(const models::Decoder& decoder, const Options& options, Device device) {
  ops::KvLayer form = decoder.cache_form();
  form.device = device;
  // On the CPU latent attention stores float32 or, in as much space as halves take, integers that
  // are as precise and multiply twice as fast.
  const bool integers =
      device == Device::kCpu && form.shared_values && options.kv_type != DType::kF32;
  form.dtype = integers ? DType::kI16 : options.kv_type;
  form.page_size =
      options.page_size != 0 ? options.page_size : models::default_page_size(form.shared_values);
  if (form.page_size < cpu::kAttentionTile || form.page_size % cpu::kAttentionTile != 0) {
    throw Error("--page_size {}: must be a multiple of {}", form.page_size, cpu::kAttentionTile);
  }
  form.page_bytes = ops::kv_page_bytes(form);
  return form;
}

EngineInfo make_info(const models::Decoder& decoder, const Options& options, Device device,
                     int cpu_layers) {
  if (options.cache_tokens < 1)
    throw Error("--cache_lens {}: must be positive", options.cache_tokens);
  const ops::KvLayer form = cache_form(decoder, options, device);
  const int32_t page_size = form.page_size;
  return {.vocab_size = decoder.config().vocab,
          .context_length = decoder.config().context,
          .page_size = page_size,
          .num_pages = (options.cache_tokens - 1) / page_size + 1,
          .max_step_tokens = std::max(options.max_step_tokens, options.max_step_sequences),
          .max_step_sequences = options.max_step_sequences,
          .page_bytes = form.page_bytes * (decoder.config().layers - cpu_layers) +
                        cache_form(decoder, options, Device::kCpu).page_bytes * cpu_layers,
          .page_format = kPageFormat << 32 | static_cast<uint64_t>(cpu_layers) << 20 |
                         static_cast<uint64_t>(device) << 16 | static_cast<uint64_t>(form.dtype)};
}

void check_slice(const SequenceSlice& slice, const EngineInfo& info) {
  const int32_t end = slice.position + slice.num_tokens;
  TANDEM_CHECK(slice.num_tokens > 0 && end <= info.context_length, "{} tokens at {} of {}",
               slice.num_tokens, slice.position, info.context_length);
  TANDEM_CHECK(int64_t{end} <= static_cast<int64_t>(slice.pages.size()) * info.page_size,
               "{} tokens in {} pages", end, slice.pages.size());
}

void check_batch(const Batch& batch, const EngineInfo& info) {
  TANDEM_CHECK(static_cast<int32_t>(batch.tokens.size()) <= info.max_step_tokens &&
                   static_cast<int32_t>(batch.sequences.size()) <= info.max_step_sequences,
               "{} tokens of {} sequences in a step", batch.tokens.size(), batch.sequences.size());
  size_t tokens = 0;
  for (const SequenceSlice& slice : batch.sequences)
    tokens += static_cast<size_t>(slice.num_tokens);
  TANDEM_CHECK(tokens == batch.tokens.size(), "slices have {} tokens, the batch {}", tokens,
               batch.tokens.size());
}

}  // namespace tandem::engine
