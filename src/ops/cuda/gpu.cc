// The operators over the launchers of kernels/cuda, on one stream.
#include "ops/gpu.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <cuda_bf16.h>

#include "base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/quant_rows.h"
#include "kernels/cuda/rope.h"
#include "kernels/cuda/routing.h"
#include "ops/cuda/device_budget.h"
#include "ops/cuda/expert_stream.h"
#include "ops/cuda/hand_offs.h"
#include "ops/cuda/hot_slots.h"
#include "ops/cuda/products.h"
#include "ops/cuda/sampling.h"
#include "ops/cuda/step.h"
#include "platform/cuda/error.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "platform/gpu.h"
#include "quant/panels.h"

namespace tandem::ops {
namespace {

using platform::cuda::Event;
using platform::cuda::PinnedMemory;
using platform::cuda::Stream;

// A copy of this size runs at the bus's speed; one buffer is filled while nothing else happens.
constexpr size_t kUploadBytes = size_t{64} << 20;

__nv_bfloat16* halves(std::byte* rounded) { return reinterpret_cast<__nv_bfloat16*>(rounded); }

// What a stack's kernels expect it to be.
int rows_of(const Tensor& w) { return static_cast<int>(w.shape.inner(1)); }

class CudaGpu : public Gpu {
 public:
  CudaGpu(const platform::Gpu& gpu, int64_t memory_bytes)
      : name_(gpu.name), memory_(memory_bytes), upload_(kUploadBytes) {}

  std::byte* allocate(int64_t bytes, const char* purpose) override {
    return memory_.allocate(bytes, purpose);
  }
  int64_t free_bytes() const override { return memory_.free_bytes(); }
  const std::string& name() const override { return name_; }
  void upload(std::span<const std::byte> host, std::byte* device) override {
    write(host, device);
    queue_.synchronize();
  }
  std::span<std::byte> upload_buffer() override { return {upload_.data(), upload_.bytes()}; }

  void transfer(std::span<const Transfer> transfers) override {
    const std::scoped_lock lock(transfer_mutex_);
    for (const Transfer& t : transfers) {
      TANDEM_CUDA_CALL(
          cudaMemcpyAsync(t.to, t.from, t.bytes, cudaMemcpyDefault, transfer_stream_.get()));
    }
    transfer_stream_.synchronize();
  }

  std::string unsupported(const GpuSizes& s) const override {
    if (s.cache.dtype == DType::kF32) return "its attention has no float32 cache";
    if (s.cache.shared_values) {
      const bool fits = s.cache.value_dim == cuda::kLatentDim &&
                        s.cache.key_dim == cuda::kLatentDim + cuda::kLatentRope;
      return fits ? "" : "its latent attention is built for rows of 512 + 64";
    }
    const bool fits =
        s.cache.key_dim == s.cache.value_dim &&
        cuda::gqa_supports({s.heads, s.cache.kv_heads, s.cache.key_dim, s.cache.page_size});
    return fits ? "" : "its attention is built for heads of 64 or 128";
  }
  bool has_kernels(DType type) const override {
    return quant::has_panels(type) || type == DType::kF32 || type == DType::kF16 ||
           type == DType::kBF16;
  }
  bool has_expert_kernels(DType type) const override { return quant::has_panels(type); }
  void prepare(const GpuSizes& sizes) override {
    step_.emplace(sizes);
    defer_ = sizes.deferred_experts > 0;
    if (sizes.host_experts_used > 0) hand_offs_.reserve(sizes);
  }
  GpuStepArrays begin_step(const GpuStepLayout& layout, int rows) override {
    live_tokens_ = static_cast<int64_t>(layout.ids.size());
    padded_ = rows > 0;
    only_generates_ = layout.ids.size() == layout.sequences.size();
    layer_ = 0;
    hot_.upload_table(stream());
    return step_->begin(layout, rows, stream());
  }
  void capture(int rows, const std::function<void()>& enqueue) override {
    Captured captured = {.rows = rows, .plan = step_->plan(), .graph = {}, .host_work = {}};
    capturing_ = &captured.host_work;
    layer_ = 0;
    captured.graph = platform::cuda::Graph::capture(queue_, [&](cudaStream_t) {
      enqueue();
      stream();
    });
    capturing_ = nullptr;
    graphs_.push_back(std::move(captured));
  }
  bool replay(int rows) override {
    const auto found = std::find_if(graphs_.begin(), graphs_.end(),
                                    [&](const Captured& g) { return g.rows == rows; });
    if (found == graphs_.end() || found->plan != step_->plan()) return false;
    found->graph.launch(stream());
    hand_offs_.launched();
    replayed_ = &*found;
    return true;
  }
  void work_off() override {
    const Captured* replayed = std::exchange(replayed_, nullptr);
    TANDEM_CHECK(replayed != nullptr, "no graph was launched");
    for (size_t i = 0; i < replayed->host_work.size(); ++i) {
      const CapturedWork& captured = replayed->host_work[i];
      const HostExperts operands = hand_offs_.operands(captured.place, live_tokens_, captured.last);
      hand_offs_.wait(i, stream());
      hot_.count(captured.hot, operands.ids, operands.tokens);
      captured.work.now(operands);
      hand_offs_.answer(i);
      if (operands.deferred > 0) captured.work.later(operands);
    }
  }
  HostTimes host_times() const override { return hand_offs_.times(); }
  void read(const void* device, size_t bytes, std::byte* host) override {
    TANDEM_CUDA_CALL(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()));
  }
  void write(std::span<const std::byte> host, std::byte* device) override {
    TANDEM_CUDA_CALL(
        cudaMemcpyAsync(device, host.data(), host.size(), cudaMemcpyHostToDevice, stream()));
  }
  std::span<std::byte> pinned(size_t bytes) override {
    return {pinned_.emplace_back(bytes).data(), bytes};
  }
  void begin_host_experts(const GpuExperts& experts) override {
    hand_offs_.send(experts, place(), hot_.find(*experts.gate), stream());
    if (capturing_ == nullptr) mark_.record(stream());
  }
  void end_host_experts(const GpuExperts& experts, HostWork work) override {
    const HandOffs::Place place = this->place();
    const int hot = hot_.find(*experts.gate).index;
    ++layer_;
    // Not through stream(): the sum of hot experts waits on for the norm.
    if (capturing_ != nullptr) {
      hand_offs_.receive(experts, place, queue_.get());
      capturing_->push_back({place, experts.last, hot, std::move(work)});
      return;
    }
    const HostExperts operands = hand_offs_.operands(place, live_tokens_, experts.last);
    mark_.synchronize();
    hot_.count(hot, operands.ids, operands.tokens);
    work.now(operands);
    hand_offs_.receive(experts, place, queue_.get());
    if (operands.deferred > 0) work.later(operands);
  }
  HotSlots& reserve_hot_slots(const HotSlotsSizes& sizes) override {
    hot_.reserve(sizes, memory_);
    return hot_;
  }
  void hot_experts(Workspace& workspace, const GpuExperts& experts) override {
    const HotLayer& layer = hot_.find(*experts.gate);
    if (layer.index < 0) return;
    GpuExperts in_slots = experts;
    in_slots.gate = &layer.gate;
    in_slots.up = &layer.up;
    in_slots.down = &layer.down;
    in_slots.ids = layer.ids;
    this->experts(workspace, in_slots);
  }
  std::shared_ptr<void> lock(std::span<std::byte> memory) override {
    return std::make_shared<platform::cuda::LockedMemory>(memory);
  }
  void prepare_streaming(int64_t layer_bytes) override {
    expert_stream_.reset();
    if (layer_bytes == 0) return;
    if (const int64_t free = memory_.free_bytes(); 2 * layer_bytes > free) {
      throw Error("two buffers of {} MiB to copy experts to: the GPU has {} MiB left",
                  layer_bytes >> 20, std::max<int64_t>(free, 0) >> 20);
    }
    expert_stream_.emplace(layer_bytes);
  }
  bool streams_experts() const override { return expert_stream_ && !padded_; }
  void stream_experts(Workspace& workspace, const GpuExperts& experts) override {
    const ExpertStream::Layer layer =
        expert_stream_->begin(experts, hot_.find(*experts.gate), stream());
    GpuExperts on_device = experts;
    on_device.gate = &layer.gate;
    on_device.up = &layer.up;
    on_device.down = &layer.down;
    this->experts(workspace, on_device);
    expert_stream_->end(stream());
  }
  void wait() override {
    stream();
    queue_.synchronize();
  }
  bool busy() override { return queue_.busy(); }
  bool broken() override { return queue_.broken(); }

  void embed(const Tensor& table, const int32_t* ids, int64_t tokens, float* out) override {
    cuda::decode_rows({.w = table.data,
                       .type = table.dtype,
                       .n = static_cast<int>(table.rows()),
                       .k = static_cast<int>(table.cols()),
                       .ids = ids,
                       .rows = static_cast<int>(tokens),
                       .out = out,
                       .out_stride = table.cols(),
                       .to_bf16 = false},
                      stream());
  }

  void rms_norm(RowsView x, int64_t rows, const Tensor& weight, float epsilon,
                RowsView y) override {
    const bool sums = unsummed_ && unsummed_->residual == x.data && unsummed_->tokens == rows &&
                      unsummed_->width == weight.cols() && x.stride == weight.cols();
    const cuda::ExpertSums experts =
        sums ? *std::exchange(unsummed_, std::nullopt) : cuda::ExpertSums{};
    cuda::rms_norm({.x = {x.data, x.stride},
                    .addend = {nullptr, 0},
                    .weight = weight.f32(),
                    .y = {y.data, y.stride},
                    .n = weight.cols(),
                    .rows = static_cast<int>(rows),
                    .epsilon = epsilon,
                    .rounded = {halves(y.rounded), y.stride},
                    .experts = experts},
                   stream());
  }

  void fill_rope_table(const RopeConfig& config, const double* frequencies,
                       const int32_t* positions, int64_t tokens, float* table) override {
    cuda::fill_rope_table({.positions = positions,
                           .frequencies = frequencies,
                           .table = table,
                           .dims = config.dims,
                           .interleaved = config.style == RopeStyle::kInterleaved,
                           .magnitude = config.magnitude,
                           .tokens = static_cast<int>(tokens)},
                          stream());
  }

  void gather_rows(const float* x, const int32_t* rows, int64_t count, int64_t width,
                   float* out) override {
    cuda::gather_rows({.x = {x, width},
                       .rows = rows,
                       .out = {out, width},
                       .n = width,
                       .count = static_cast<int>(count)},
                      stream());
  }

  void linear(Workspace& workspace, Input x, int64_t tokens,
              std::span<const Projection> projections) override {
    device_linear(workspace, x, tokens, projections, stream());
  }
  void feed_forward(Workspace& workspace, Input x, int64_t tokens, const Tensor& gate,
                    const Tensor& up, const Projection& down) override {
    device_feed_forward(workspace, x, tokens, gate, up, down, stream());
  }
  void linear_per_head(Workspace& workspace, HeadsView x, int64_t tokens, const Tensor& w,
                       HeadsView y) override {
    device_linear_per_head(workspace, x, tokens, w, y, stream());
  }

  void grouped_attention(const KvLayer& layer, const GroupedProjections& in,
                         Features out) override {
    step_->grouped_attention(layer, in, out, stream());
  }

  void latent_attention(Workspace& workspace, const KvLayer& layer, const LatentProjections& in,
                        Features out) override {
    Workspace::Scope scope(workspace);
    const int64_t tokens = step_->tokens(), rank = layer.value_dim;
    const int64_t head_dim = in.nope + layer.key_dim - rank;
    float* latent = scope.floats(static_cast<size_t>(tokens * in.heads * rank));  // [T, H, kv_lora]
    linear_per_head(workspace, {in.q.f32, in.heads * head_dim, head_dim, in.q.rounded}, tokens,
                    in.k_b, {latent, in.heads * rank, rank});
    step_->prepare_latent(layer, in, latent, stream());
    step_->attention(layer, in.scale, out, stream());
  }

  void prepare_sampling(int rows, int vocab) override { sampling_.emplace(rows, vocab); }
  void stage_sampling(std::span<const SampleParams> rows, std::span<uint8_t> taken) override {
    sampling_->stage(rows, taken, stream());
  }
  void sample(const float* logits) override { sampling_->sample(logits, stream()); }
  SampleResult sampled(int row) override { return sampling_->result(row); }

  void route(const GpuRouting& r) override {
    cuda::route({.logits = r.logits,
                 .selection_bias = r.selection_bias,
                 .ids = r.ids,
                 .weights = r.weights,
                 .experts = r.experts,
                 .used = r.used,
                 .gating = static_cast<cuda::Gating>(r.gating),
                 .normalise = r.normalise,
                 .scale = r.scale,
                 .groups = r.groups,
                 .groups_used = r.groups_used,
                 .tokens = static_cast<int>(r.tokens),
                 .slots = r.tokens == step_->tokens() ? step_->slots() : nullptr},
                stream());
  }

  void experts(Workspace& workspace, const GpuExperts& e) override {
    Workspace::Scope scope(workspace);
    const int width = static_cast<int>(e.gate->cols());
    const int count = static_cast<int>(e.gate->shape.inner(2));
    const int hidden = rows_of(*e.gate);
    const int tokens = static_cast<int>(e.tokens);
    const cuda::ConstProductRows x = for_products(scope, e.x, e.tokens, width, stream());
    unsummed_ = cuda::run_experts({.gate = e.gate->data,
                                   .up = e.up->data,
                                   .down = e.down->data,
                                   .gate_type = e.gate->dtype,
                                   .down_type = e.down->dtype,
                                   .experts = count,
                                   .hidden = hidden,
                                   .width = width,
                                   .x = x,
                                   .ids = e.ids,
                                   .weights = e.weights,
                                   .tokens = tokens,
                                   .used = e.used,
                                   .residual = e.residual,
                                   .workspace = scope.bytes(cuda::experts_workspace_bytes(
                                       tokens, e.used, count, hidden, width))},
                                  stream());
  }

  void add(const float* x, const float* sigmoid_factor, int64_t tokens, int64_t n,
           float* y) override {
    const int count = static_cast<int>(tokens);
    if (sigmoid_factor == nullptr) {
      cuda::add({{x, n}, {y, n}, {y, n}, n, count}, stream());
    } else {
      cuda::multiply_add({{x, n}, sigmoid_factor, true, {y, n}, n, count}, stream());
    }
  }

 private:
  // Where operators are enqueued. The experts' sum waits for the norm that usually follows, which
  // then takes it along; anything else has it done first.
  cudaStream_t stream() {
    if (unsummed_) cuda::combine_experts(*std::exchange(unsummed_, std::nullopt), queue_.get());
    return queue_.get();
  }

  // Of the layer of experts that is enqueued.
  HandOffs::Place place() const {
    return {.layer = layer_, .flags = capturing_ != nullptr, .defers = defer_ && only_generates_};
  }

  struct CapturedWork {
    HandOffs::Place place;
    bool last;  // layer
    int hot;    // index of the layer in the slots, or -1
    HostWork work;
  };
  struct Captured {
    int rows;
    StepOnDevice::Plan plan;
    platform::cuda::Graph graph;
    std::vector<CapturedWork> host_work;  // in the order of the graph
  };

  std::string name_;
  DeviceBudget memory_;
  Stream queue_, transfer_stream_;  // queue_: through stream() alone
  std::optional<cuda::ExpertSums> unsummed_;
  std::mutex transfer_mutex_;
  HandOffs hand_offs_;
  std::optional<ExpertStream> expert_stream_;
  CudaHotSlots hot_;
  std::vector<CapturedWork>* capturing_ = nullptr;
  bool defer_ = false, only_generates_ = false;
  bool padded_ = false;  // the step is a graph's, or runs as one would
  size_t layer_ = 0;     // of experts on the host, of the step that is enqueued
  int64_t live_tokens_ = 0;
  std::vector<Captured> graphs_;
  const Captured* replayed_ = nullptr;  // whose host's part is to be done
  Event mark_;
  PinnedMemory upload_;
  std::vector<PinnedMemory> pinned_;
  std::optional<StepOnDevice> step_;
  std::optional<SamplingOnDevice> sampling_;
};

}  // namespace

int64_t Gpu::hand_off_bytes(const GpuSizes& sizes) { return HandOffs::bytes(sizes); }

size_t Gpu::experts_workspace_bytes(const Tensor& gate, int64_t tokens, int used) {
  const int64_t width = gate.cols();
  return Workspace::aligned(static_cast<size_t>(tokens * width) * sizeof(__nv_bfloat16)) +
         Workspace::aligned(cuda::experts_workspace_bytes(static_cast<int>(tokens), used,
                                                          static_cast<int>(gate.shape.inner(2)),
                                                          rows_of(gate), static_cast<int>(width)));
}

std::unique_ptr<Gpu> open_gpu(int64_t memory_bytes) {
  const platform::Gpus gpus = platform::find_gpus();
  if (gpus.list.empty()) throw Error("{}", gpus.missing);
  const platform::Gpu& gpu = gpus.list.front();
  if (!cuda::has_code_for_device()) {
    throw Error(
        "no GPU for this program: it was not built for {} (compute capability {}.{}); configure "
        "with -DTANDEM_CUDA_ARCHITECTURES",
        gpu.name, gpu.compute / 10, gpu.compute % 10);
  }
  return std::make_unique<CudaGpu>(gpu, memory_bytes);
}

}  // namespace tandem::ops
