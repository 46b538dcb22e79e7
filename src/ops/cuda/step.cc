// One upload and one plan a step.
#include "ops/cuda/step.h"

#include <algorithm>

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prepare.h"
#include "ops/context.h"
#include "platform/cuda/error.h"

namespace tandem::ops {
namespace {

using platform::cuda::DeviceMemory;
using platform::cuda::PinnedMemory;

cuda::GqaShape gqa_shape(const GpuSizes& s) {
  return {s.heads, s.cache.kv_heads, s.cache.key_dim, s.cache.page_size};
}

cuda::Rotation rotation(const Rotations& r) {
  return {.table = r.table,
          .dims = r.config.dims,
          .interleaved = r.config.style == RopeStyle::kInterleaved};
}

}  // namespace

cuda::KvCache cuda_cache(const KvLayer& l) {
  const cuda::CacheType type =
      l.dtype == DType::kBF16 ? cuda::CacheType::kBF16 : cuda::CacheType::kF16;
  if (l.shared_values) return cuda::latent_cache(l.data, l.page_size, l.key_dim, type);
  return cuda::grouped_cache(l.data, l.page_size, l.kv_heads, l.key_dim, type);
}

StepOnDevice::StepOnDevice(const GpuSizes& sizes)
    : sizes_(sizes),
      ids_(add(sizes.max_tokens)),
      positions_(add(sizes.max_tokens)),
      slots_(add(sizes.max_tokens)),
      output_rows_(add(sizes.max_sequences)),
      token_starts_(add(sizes.max_sequences + 1)),
      page_starts_(add(sizes.max_sequences + 1)),
      keys_(add(sizes.max_sequences)),
      last_page_keys_(add(sizes.max_sequences)),
      pages_(add(sizes.max_pages)),
      staged_(bytes_),
      device_(bytes_),
      latent_(sizes.cache.shared_values) {
  if (latent_) {
    form_ = cuda::mla_form(cuda::compute_capability());
    launch_sizes_ = cuda::mla_sizes({sizes.heads, sizes.cache.page_size}, sizes.max_tokens);
    graph_sizes_ = launch_sizes_;
  } else {
    launch_sizes_ = cuda::gqa_sizes(gqa_shape(sizes), sizes.max_tokens, sizes.max_sequences,
                                    cuda::PlanFor::kLaunch);
    graph_sizes_ = cuda::gqa_sizes(gqa_shape(sizes), sizes.max_sequences, sizes.max_sequences,
                                   cuda::PlanFor::kGraph);
  }
  const size_t plan_bytes = std::max(launch_sizes_.plan_bytes, graph_sizes_.plan_bytes);
  plan_staged_ = PinnedMemory(plan_bytes);
  plan_memory_ = DeviceMemory(plan_bytes);
  scratch_ = DeviceMemory(std::max(launch_sizes_.scratch_bytes, graph_sizes_.scratch_bytes));
  memory_ = {plan_staged_.data(), plan_memory_.data(), scratch_.data()};
  decode_supported_ = !latent_ && cuda::decode_supports(gqa_shape(sizes));
  if (!decode_supported_) return;
  decode_partial_ = DeviceMemory(cuda::decode_partial_bytes(sizes.cache.key_dim));
  decode_counters_ = DeviceMemory(static_cast<size_t>(sizes.max_sequences) *
                                  static_cast<size_t>(sizes.cache.kv_heads) * sizeof(uint32_t));
  TANDEM_CUDA_CALL(cudaMemset(decode_counters_.data(), 0, decode_counters_.bytes()));
}

int64_t Gpu::page_bytes(const KvLayer& form) { return cuda::page_bytes(cuda_cache(form)); }

StepOnDevice::Array StepOnDevice::add(int count) {
  const Array array = {bytes_};
  bytes_ += Workspace::aligned(static_cast<size_t>(count) * sizeof(int32_t));
  return array;
}

GpuStepArrays StepOnDevice::begin(const GpuStepLayout& layout, int rows, cudaStream_t stream) {
  lay_out(layout);
  if (rows > 0) pad(rows);
  // Pages lie last: what the step has no use for is not copied.
  const auto pages = static_cast<size_t>(on_host(page_starts_)[requests_]);
  TANDEM_CUDA_CALL(cudaMemcpyAsync(device_.data(), staged_.data(),
                                   pages_.offset + pages * sizeof(int32_t), cudaMemcpyHostToDevice,
                                   stream));
  decodes_ = rows > 0 && decode_supported_;
  plan_ = {};
  if (!decodes_) make_plan(rows > 0 ? cuda::PlanFor::kGraph : cuda::PlanFor::kLaunch, stream);
  return {on_device(ids_), on_device(positions_), on_device(output_rows_)};
}

void StepOnDevice::lay_out(const GpuStepLayout& layout) {
  tokens_ = static_cast<int>(layout.ids.size());
  requests_ = static_cast<int>(layout.sequences.size());
  std::copy(layout.ids.begin(), layout.ids.end(), on_host(ids_));
  std::copy(layout.output_rows.begin(), layout.output_rows.end(), on_host(output_rows_));
  const int page_size = sizes_.cache.page_size;
  int32_t token = 0, page = 0;
  for (int i = 0; i < requests_; ++i) {
    const GpuStepLayout::Sequence& s = layout.sequences[static_cast<size_t>(i)];
    const int32_t keys = s.position + s.tokens;
    const int32_t used = (keys + page_size - 1) / page_size;
    TANDEM_CHECK(page + used <= sizes_.max_pages, "{} pages of {}", page + used, sizes_.max_pages);
    on_host(token_starts_)[i] = token;
    on_host(page_starts_)[i] = page;
    on_host(keys_)[i] = keys;
    on_host(last_page_keys_)[i] = keys - (used - 1) * page_size;
    for (int32_t p = s.position; p < keys; ++p, ++token) {
      on_host(positions_)[token] = p;
      on_host(slots_)[token] =
          s.pages[static_cast<size_t>(p / page_size)] * page_size + p % page_size;
    }
    std::copy_n(s.pages.begin(), used, on_host(pages_) + page);
    page += used;
  }
  on_host(token_starts_)[requests_] = token;
  on_host(page_starts_)[requests_] = page;
  TANDEM_CHECK(token == tokens_, "sequences have {} tokens, the step {}", token, tokens_);
}

// Rows without a request: token 0 at position 0 that is stored nowhere and sees no keys.
void StepOnDevice::pad(int rows) {
  TANDEM_CHECK(requests_ == tokens_ && tokens_ <= rows && rows <= sizes_.max_sequences,
               "{} tokens of {} requests for a graph of {}", tokens_, requests_, rows);
  for (int i = tokens_; i < rows; ++i) {
    on_host(ids_)[i] = 0;
    on_host(positions_)[i] = 0;
    on_host(slots_)[i] = -1;
    on_host(output_rows_)[i] = i;
    on_host(keys_)[i] = 0;
    on_host(last_page_keys_)[i] = 1;
    on_host(token_starts_)[i + 1] = on_host(token_starts_)[tokens_];
    on_host(page_starts_)[i + 1] = on_host(page_starts_)[tokens_];
  }
  requests_ = latent_ ? requests_ : rows;
  tokens_ = rows;
}

void StepOnDevice::make_plan(cuda::PlanFor purpose, cudaStream_t stream) {
  const cuda::AttentionBatch batch = {on_host(token_starts_), on_host(page_starts_), on_host(keys_),
                                      requests_};
  const bool graph = purpose == cuda::PlanFor::kGraph;
  const cuda::AttentionSizes& sizes = graph ? graph_sizes_ : launch_sizes_;
  if (latent_) {
    plan_.mla =
        cuda::plan_mla({sizes_.heads, sizes_.cache.page_size}, batch, sizes, memory_, stream);
  } else {
    plan_.gqa = cuda::plan_gqa(gqa_shape(sizes_), batch, purpose, sizes, memory_, stream);
  }
}

void StepOnDevice::grouped_attention(const KvLayer& layer, const GroupedProjections& in,
                                     Features out, cudaStream_t stream) const {
  const int64_t width = int64_t{layer.kv_heads} * layer.key_dim;
  const cuda::PrepareGqaParams prepare = {.q = {in.q, in.heads * layer.key_dim},
                                          .k = {in.k, width},
                                          .v = {in.v, width},
                                          .q_norm = in.q_norm ? in.q_norm.f32() : nullptr,
                                          .k_norm = in.k_norm ? in.k_norm.f32() : nullptr,
                                          .epsilon = in.epsilon,
                                          .rotation = rotation(in.rotations),
                                          .slots = slots(),
                                          .cache = cuda_cache(layer),
                                          .queries = queries(),
                                          .heads = sizes_.heads,
                                          .tokens = tokens_};
  if (!decodes_) {
    cuda::prepare_gqa(prepare, stream);
    return attention(layer, in.scale, out, stream);
  }
  cuda::decode_gqa({.in = prepare,
                    .page_starts = on_device(page_starts_),
                    .pages = on_device(pages_),
                    .last_page_keys = on_device(last_page_keys_),
                    .scratch = {decode_partial_.as<float>(), decode_counters_.as<uint32_t>()},
                    .scale = in.scale,
                    .out = out.f32,
                    .rounded = reinterpret_cast<__nv_bfloat16*>(out.rounded)},
                   stream);
}

void StepOnDevice::prepare_latent(const KvLayer& layer, const LatentProjections& in,
                                  const float* latent, cudaStream_t stream) const {
  const cuda::KvCache cache = cuda_cache(layer);
  const cuda::Rotation rotates = rotation(in.rotations);
  const int64_t rank = layer.value_dim, head_dim = in.nope + layer.key_dim - rank;
  cuda::prepare_latent({.store = {.rows = {in.kv, layer.key_dim},
                                  .norm = in.kv_norm.f32(),
                                  .epsilon = in.epsilon,
                                  .rotation = rotates,
                                  .slots = slots(),
                                  .cache = cache,
                                  .tokens = tokens_},
                        .queries = {.latent = latent,
                                    .latent_token_stride = in.heads * rank,
                                    .latent_head_stride = rank,
                                    .rope = in.q.f32 + in.nope,
                                    .rope_token_stride = in.heads * head_dim,
                                    .rope_head_stride = head_dim,
                                    .rotation = rotates,
                                    .queries = queries(),
                                    .type = cache.type,
                                    .heads = sizes_.heads,
                                    .tokens = tokens_}},
                       stream);
}

void StepOnDevice::attention(const KvLayer& layer, float scale, Features out,
                             cudaStream_t stream) const {
  auto* rounded = reinterpret_cast<__nv_bfloat16*>(out.rounded);
  if (latent_) {
    cuda::mla_attention({.shape = {sizes_.heads, layer.page_size},
                         .plan = plan_.mla,
                         .form = form_,
                         .memory = memory_,
                         .cache = cuda_cache(layer),
                         .q = nullptr,  // in memory_ already
                         .out = out.f32,
                         .pages = on_device(pages_),
                         .tokens = tokens_,
                         .scale = scale,
                         .rounded = rounded},
                        stream);
    return;
  }
  cuda::gqa_attention({.shape = gqa_shape(sizes_),
                       .plan = plan_.gqa,
                       .memory = memory_,
                       .cache = cuda_cache(layer),
                       .q = nullptr,  // in memory_ already
                       .out = out.f32,
                       .token_starts = on_device(token_starts_),
                       .page_starts = on_device(page_starts_),
                       .pages = on_device(pages_),
                       .last_page_keys = on_device(last_page_keys_),
                       .requests = requests_,
                       .tokens = tokens_,
                       .scale = scale,
                       .rounded = rounded},
                      stream);
}

}  // namespace tandem::ops
