// Sizes memory on both sides at start; a step is enqueued, waited for once, and sampled.
#include "engine/gpu_engine.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "engine/gpu_requirements.h"
#include "engine/kv_cache.h"
#include "engine/sizes.h"

namespace tandem::engine {
namespace {

// Rows of steps that only generate: filled up to the next of these, for which a graph is captured.
constexpr int kGraphRows[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};

// Those up to a step's sequences, and for that many too.
std::vector<int> graph_rows(int sequences) {
  std::vector<int> rows;
  for (const int count : kGraphRows) {
    if (count < sequences) rows.push_back(count);
  }
  rows.push_back(std::min(sequences, kGraphRows[std::size(kGraphRows) - 1]));
  if (rows.size() > 1 && rows.back() == rows[rows.size() - 2]) rows.pop_back();
  return rows;
}

std::span<std::byte> take(ops::Gpu& gpu, size_t bytes, const char* purpose) {
  return {gpu.allocate(static_cast<int64_t>(bytes), purpose), bytes};
}

std::unique_ptr<LeadingLayers> make_leading(models::Decoder& decoder, ops::Gpu& gpu,
                                            const Plan& plan, const Options& options,
                                            const EngineInfo& info) {
  if (plan.cpu_layers == 0) return nullptr;
  return std::make_unique<LeadingLayers>(decoder, plan.cpu_layers, gpu,
                                         cache_form(decoder, options, Device::kCpu), info);
}

// That of the leading layers, then that of the others.
std::vector<ops::KvLayer> allocate_cache(ops::Gpu& gpu, const LeadingLayers* leading,
                                         ops::KvLayer form, int layers, int pages) {
  std::vector<ops::KvLayer> cache;
  if (leading != nullptr) cache.assign(leading->cache().begin(), leading->cache().end());
  for (int i = static_cast<int>(cache.size()); i < layers; ++i) {
    form.data = gpu.allocate(form.page_bytes * pages, "the KV cache");
    cache.push_back(form);
  }
  return cache;
}

}  // namespace

GpuEngine::GpuEngine(const gguf::File& file, const Options& options, std::unique_ptr<ops::Gpu> gpu,
                     const Plan& plan)
    : gpu_(std::move(gpu)),
      pool_({.threads = options.threads, .pin = true, .numa = options.numa}),
      decoder_(models::create_decoder(file,
                                      std::max(options.max_step_tokens, options.max_step_sequences),
                                      {.gpu = gpu_.get(),
                                       .cpu_layers = plan.cpu_layers,
                                       .experts = plan.experts,
                                       .nodes = pool_.nodes()})),
      streaming_(*gpu_, *decoder_, plan, largest_expert_layer_bytes(file)),
      form_(cache_form(*decoder_, options, Device::kCuda)),
      info_(make_info(*decoder_, options, Device::kCuda, plan.cpu_layers)),
      leading_(make_leading(*decoder_, *gpu_, plan, options, info_)),
      workspace_(take(*gpu_,
                      decoder_->workspace_bytes(info_.max_step_tokens, info_.max_step_sequences,
                                                form_, pool_.size(), gpu_layers()),
                      "working memory")),
      host_workspace_(host_workspace_bytes(options)),
      cache_(
          allocate_cache(*gpu_, leading_.get(), form_, decoder_->config().layers, info_.num_pages)),
      context_{.pool = pool_,
               .cpu = cpu::select(options.cpu_isa),
               .workspace = workspace_,
               .gpu = gpu_.get(),
               .host_workspace = &host_workspace_},
      host_context_{.pool = pool_, .cpu = context_.cpu, .workspace = host_workspace_},
      graph_rows_(graph_rows(info_.max_step_sequences)),
      outputs_(info_) {
  require_deferrable(decoder_->config().moe, plan, options);
  const ops::GpuSizes sizes = gpu_sizes(plan, options);
  require_host_memory(*decoder_,
                      ops::Gpu::hand_off_bytes(sizes) +
                          static_cast<int64_t>(host_workspace_.capacity()) +
                          (leading_ ? leading_->memory_bytes() : 0),
                      options);
  const auto logits =
      static_cast<size_t>(info_.max_step_sequences) * static_cast<size_t>(info_.vocab_size);
  device_logits_ = reinterpret_cast<float*>(take(*gpu_, logits * sizeof(float), "logits").data());
  sampler_ = std::make_unique<GpuSampler>(info_, *gpu_, pool_.size());
  gpu_->prepare(sizes);
  sequences_.reserve(static_cast<size_t>(info_.max_step_sequences));
}

models::LayerRange GpuEngine::gpu_layers() const {
  return {leading_ ? leading_->count() : 0, decoder_->all_layers().end};
}

// One side's layers are over when the other's experts begin.
size_t GpuEngine::host_workspace_bytes(const Options& options) const {
  size_t bytes = decoder_->host_workspace_bytes(info_.max_step_tokens, pool_.size());
  if (leading_) {
    bytes = std::max(bytes, decoder_->workspace_bytes(info_.max_step_tokens, 0,
                                                      cache_form(*decoder_, options, Device::kCpu),
                                                      pool_.size(), {0, leading_->count()}));
  }
  return std::max<size_t>(bytes, 64);
}

ops::GpuSizes GpuEngine::gpu_sizes(const Plan& plan, const Options& options) const {
  // A page may serve several sequences.
  const int64_t most_pages = std::min<int64_t>(
      int64_t{info_.num_pages} * info_.max_step_sequences,
      int64_t{info_.max_step_sequences} * ((info_.context_length - 1) / info_.page_size + 1));
  return {.cache = form_,
          .heads = decoder_->config().heads,
          .max_tokens = info_.max_step_tokens,
          .max_sequences = info_.max_step_sequences,
          .max_pages = static_cast<int>(most_pages),
          .host_expert_width = decoder_->config().hidden,
          .host_experts_used = some_experts_on(Device::kCpu, decoder_->config().moe, plan)
                                   ? decoder_->config().moe.routing.used
                                   : 0,
          .deferred_experts = options.defer_experts};
}

// Packing takes buffers on the host, as operators there do.
void GpuEngine::load_weights(const std::function<void(int64_t bytes)>& on_bytes) {
  ops::Context host{pool_, context_.cpu, host_workspace_};
  decoder_->load(host, on_bytes);
}

void GpuEngine::prepare_experts(const HotOptions& hot, int64_t hot_bytes) {
  if (hot_bytes > 0) {
    hot_ = HotExperts::create(*gpu_, *decoder_, hot, hot_bytes, info_.max_step_tokens,
                              info_.max_step_sequences);
  }
  if (hot_) hot_->fill(pool_);
  // Times the CPU beside hot experts, as it will work.
  const platform::ThreadPool::Burst burst(pool_);
  streaming_.begin(context_, info_, [&](int layer) { return hot_ && hot_->holds_all(layer); });
  if (hot_) hot_->forget();
}

void GpuEngine::lay_out(const Batch& batch) {
  sequences_.clear();
  outputs_.clear();
  int32_t token = 0;
  for (const SequenceSlice& slice : batch.sequences) {
    check_slice(slice, info_);
    sequences_.push_back({slice.num_tokens, slice.position, slice.pages});
    token += slice.num_tokens;
    outputs_.add(slice, token - 1);
  }
  for (const TokenId id : batch.tokens) {
    TANDEM_CHECK(id >= 0 && id < info_.vocab_size, "token {} of {}", id, info_.vocab_size);
  }
}

void GpuEngine::forward(const ops::GpuStepArrays& arrays, int64_t tokens, int64_t outputs) {
  decoder_->forward(context_,
                    {.ids = arrays.ids,
                     .where = {.tokens = tokens, .positions = arrays.positions, .pages = nullptr},
                     .output_rows = arrays.output_rows,
                     .outputs = outputs,
                     .logits = device_logits_,
                     .residual = leading_ ? leading_->activations() : nullptr},
                    cache_, gpu_layers());
}

// A step of each size runs once before it is captured, on tokens that are stored nowhere that
// matters: kernels are loaded at their first launch, which a capture would not allow.
void GpuEngine::capture_graphs() {
  const std::vector<int32_t> ids(static_cast<size_t>(info_.max_step_sequences));
  std::vector<int32_t> output_rows(ids.size());
  std::iota(output_rows.begin(), output_rows.end(), 0);
  const int32_t page = 0;
  for (const int rows : graph_rows_) {
    const auto count = static_cast<size_t>(rows);
    sequences_.assign(count, {.tokens = 1, .position = 0, .pages = {&page, 1}});
    const ops::GpuStepArrays arrays =
        gpu_->begin_step({.ids = std::span(ids).first(count),
                          .sequences = sequences_,
                          .output_rows = std::span(output_rows).first(count)},
                         rows);
    forward(arrays, rows, rows);
    gpu_->capture(rows, [&] { forward(arrays, rows, rows); });
    gpu_->wait();
  }
  if (hot_) hot_->forget();
}

int GpuEngine::padded_rows(const Batch& batch) const {
  for (const SequenceSlice& slice : batch.sequences) {
    if (slice.num_tokens != 1 || !slice.sample) return 0;
  }
  const auto found = std::lower_bound(graph_rows_.begin(), graph_rows_.end(),
                                      static_cast<int>(batch.sequences.size()));
  return found == graph_rows_.end() ? 0 : *found;
}

void GpuEngine::forward_batch() {
  const auto tokens = static_cast<int64_t>(batch_.tokens.size());
  const auto outputs = static_cast<int64_t>(outputs_.tokens().size());
  rows_ == 0 ? forward(arrays_, tokens, outputs) : forward(arrays_, rows_, rows_);
}

// A profile times operators one by one.
void GpuEngine::launch() {
  replayed_ = rows_ != 0 && context_.profile == nullptr && gpu_->replay(rows_);
}

// Where the CPU computes a part, finish() enqueues all but a replay: operators would wait for the
// GPU in between, and the first launch of a kernel for a GPU that waits for the CPU. A replay too,
// where layers on the CPU come before it.
void GpuEngine::begin(const Batch& batch) {
  begun_ = Clock::now();
  check_batch(batch, info_);
  batch_ = batch;
  lay_out(batch);
  rows_ = padded_rows(batch);
  sampler_->stage(batch_, outputs_);
  arrays_ = gpu_->begin_step(
      {.ids = batch.tokens, .sequences = sequences_, .output_rows = outputs_.tokens()}, rows_);
  if (leading_) return;
  launch();
  if (host_works()) return;
  if (!replayed_) forward_batch();
  const ops::Profile::Scope timed(context_.profile, ops::Op::kSample);
  sampler_->enqueue(device_logits_);
}

bool GpuEngine::running() { return !host_works() && gpu_->busy(); }

StepResult GpuEngine::finish() {
  std::optional<platform::ThreadPool::Burst> burst;
  if (host_works()) burst.emplace(pool_);
  const Clock::time_point entered = Clock::now();
  if (leading_) leading_->run(host_context_, batch_, rows_);
  const Clock::time_point led = Clock::now();
  if (leading_) launch();
  if (host_works()) replayed_ ? gpu_->work_off() : forward_batch();
  const Clock::time_point enqueued = Clock::now();
  const ops::Profile::Scope timed(context_.profile, ops::Op::kSample);
  if (host_works()) sampler_->enqueue(device_logits_);
  gpu_->wait();
  const Clock::time_point computed = Clock::now();
  if (hot_) hot_->after_step(pool_, std::ssize(batch_.tokens));
  const StepResult result = sampler_->finish(pool_, batch_, outputs_);
  sides_.reset();
  if (replayed_) {
    const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
    sides_ = step_sides(gpu_->host_times(), {.leading = leading_ ? seconds(led - entered) : 0.0,
                                             .answering = seconds(enqueued - begun_),
                                             .waiting = seconds(computed - enqueued),
                                             .finishing = seconds(Clock::now() - computed)});
  }
  return result;
}

void GpuEngine::read_page(int32_t page, std::span<std::byte> out) {
  std::vector<ops::Gpu::Transfer> transfers;
  for_each_layer(std::span<const ops::KvLayer>(cache_), page, out,
                 [&](const void* from, void* to, size_t bytes) {
                   transfers.push_back({from, to, bytes});
                 });
  gpu_->transfer(transfers);
}

void GpuEngine::write_page(int32_t page, std::span<const std::byte> in) {
  std::vector<ops::Gpu::Transfer> transfers;
  for_each_layer(std::span<const ops::KvLayer>(cache_), page, in,
                 [&](void* to, const void* from, size_t bytes) {
                   transfers.push_back({from, to, bytes});
                 });
  gpu_->transfer(transfers);
}

void GpuEngine::copy_page(int32_t from, int32_t to) {
  std::vector<ops::Gpu::Transfer> transfers;
  for (const ops::KvLayer& layer : cache_) {
    transfers.push_back(
        {page_of(layer, from), page_of(layer, to), static_cast<size_t>(layer.page_bytes)});
  }
  gpu_->transfer(transfers);
}

void GpuEngine::profile_into(ops::Profile* profile) {
  context_.profile = profile;
  host_context_.profile = profile;
  if (profile != nullptr) profile->settle_by([this] { gpu_->wait(); });
}

}  // namespace tandem::engine
