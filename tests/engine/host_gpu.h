// A GPU that is none: its memory is the host's and its operators are the CPU's, on one thread. An
// engine over it gives the CPU engine's bits whatever is divided between the two, so that dividing
// is tested without a card. No graphs, no hot or streamed experts, no latent attention.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "moe/experts.h"
#include "moe/routing.h"
#include "ops/elementwise.h"
#include "ops/gpu.h"
#include "ops/linear.h"
#include "ops/prepared_attention.h"
#include "ops/rope.h"

namespace tandem::engine {

class HostGpu : public ops::Gpu {
 public:
  std::byte* allocate(int64_t bytes, const char*) override {
    const size_t size = ops::Workspace::aligned(static_cast<size_t>(bytes));
    memory_.emplace_back(std::aligned_alloc(ops::Workspace::kAlignment, size));
    return static_cast<std::byte*>(memory_.back().get());
  }
  int64_t free_bytes() const override { return int64_t{1} << 40; }
  const std::string& name() const override { return name_; }
  void upload(std::span<const std::byte> host, std::byte* device) override { write(host, device); }
  std::span<std::byte> upload_buffer() override {
    if (upload_.empty()) upload_ = pinned(size_t{16} << 20);
    return upload_;
  }
  void transfer(std::span<const Transfer> transfers) override {
    for (const Transfer& t : transfers) std::memcpy(t.to, t.from, t.bytes);
  }
  void read(const void* device, size_t bytes, std::byte* host) override {
    std::memcpy(host, device, bytes);
  }
  void write(std::span<const std::byte> host, std::byte* device) override {
    std::memcpy(device, host.data(), host.size());
  }
  std::span<std::byte> pinned(size_t bytes) override {
    return {allocate(static_cast<int64_t>(bytes), ""), bytes};
  }
  void wait() override {}
  bool busy() override { return false; }
  bool broken() override { return false; }

  std::string unsupported(const ops::GpuSizes&) const override { return ""; }
  bool has_kernels(DType) const override { return true; }
  bool has_expert_kernels(DType) const override { return true; }
  void prepare(const ops::GpuSizes& sizes) override {
    grouping_.reserve(std::max(sizes.max_tokens, sizes.max_sequences), kMostExperts, kMostUsed);
  }

  ops::GpuStepArrays begin_step(const ops::GpuStepLayout& layout, int rows) override {
    live_ = static_cast<int64_t>(layout.ids.size());
    const size_t all = std::max(layout.ids.size(), static_cast<size_t>(rows));
    ids_.assign(layout.ids.begin(), layout.ids.end());
    outputs_.assign(layout.output_rows.begin(), layout.output_rows.end());
    positions_.clear();
    pages_.clear();
    for (const ops::GpuStepLayout::Sequence& s : layout.sequences) {
      for (int32_t i = 0; i < s.tokens; ++i) {
        positions_.push_back(s.position + i);
        pages_.push_back(s.pages.data());
      }
    }
    for (size_t i = layout.ids.size(); i < all; ++i) {
      outputs_.push_back(static_cast<int32_t>(i));
    }
    ids_.resize(all);
    positions_.resize(all);
    return {ids_.data(), positions_.data(), outputs_.data()};
  }
  void capture(int, const std::function<void()>&) override {}
  bool replay(int) override { return false; }
  void work_off() override { TANDEM_CHECK(false, "{} graphs", 0); }
  ops::HostTimes host_times() const override { return {}; }

  void begin_host_experts(const ops::GpuExperts&) override {}
  void hot_experts(ops::Workspace&, const ops::GpuExperts&) override {}
  void end_host_experts(const ops::GpuExperts& e, ops::HostWork work) override {
    const auto values = static_cast<size_t>(live_ * e.gate->cols());
    sum_.resize(values);
    work.now({.x = e.x.f32,
              .ids = e.ids,
              .weights = e.weights,
              .tokens = live_,
              .sum = sum_.data(),
              .sum_begun = false,
              .deferred = 0,
              .next_sum = nullptr});
    for (size_t i = 0; i < values; ++i) e.residual[i] += sum_[i];
  }
  ops::HotSlots& reserve_hot_slots(const ops::HotSlotsSizes& sizes) override {
    TANDEM_CHECK(false, "slots for {} layers", sizes.layers.size());
  }
  std::shared_ptr<void> lock(std::span<std::byte>) override { return nullptr; }
  void prepare_streaming(int64_t) override {}
  bool streams_experts() const override { return false; }
  void stream_experts(ops::Workspace&, const ops::GpuExperts& e) override {
    TANDEM_CHECK(false, "{} tokens streamed", e.tokens);
  }

  void embed(const Tensor& table, const int32_t* ids, int64_t tokens, float* out) override {
    ops::embed(cpu_, table, ids, tokens, out);
  }
  void rms_norm(ops::RowsView x, int64_t rows, const Tensor& weight, float epsilon,
                ops::RowsView y) override {
    ops::rms_norm(cpu_, x, rows, weight, epsilon, y);
  }
  void fill_rope_table(const ops::RopeConfig& config, const double* frequencies,
                       const int32_t* positions, int64_t tokens, float* table) override {
    ops::fill_rope_table(cpu_, config, frequencies, positions, tokens, table);
  }
  void gather_rows(const float* x, const int32_t* rows, int64_t count, int64_t width,
                   float* out) override {
    ops::gather_rows(cpu_, x, rows, count, width, out);
  }
  void linear(ops::Workspace&, ops::Input x, int64_t tokens,
              std::span<const ops::Projection> projections) override {
    for (const ops::Projection& p : projections) {
      ops::linear(cpu_, x, tokens, {{.w = p.w, .bias = p.bias, .y = p.y, .residual = p.residual}});
    }
  }
  void feed_forward(ops::Workspace&, ops::Input x, int64_t tokens, const Tensor& gate,
                    const Tensor& up, const ops::Projection& down) override {
    ops::feed_forward(cpu_, x, tokens, gate, up, down);
  }
  void linear_per_head(ops::Workspace&, ops::HeadsView x, int64_t tokens, const Tensor& w,
                       ops::HeadsView y) override {
    ops::linear_per_head(cpu_, x, tokens, w, y);
  }
  // Padding is stored nowhere and sees no keys.
  void grouped_attention(const ops::KvLayer& layer, const ops::GroupedProjections& in,
                         ops::Features out) override {
    TANDEM_CHECK(layer.device == Device::kCuda, "a cache in {}", "host memory");
    ops::KvLayer here = layer;
    here.device = Device::kCpu;
    TANDEM_CHECK(ops::kv_page_bytes(here) == layer.page_bytes, "pages of {} bytes",
                 layer.page_bytes);
    ops::grouped_attention(cpu_, here, {live_, positions_.data(), pages_.data()}, in, out);
  }
  void latent_attention(ops::Workspace&, const ops::KvLayer&, const ops::LatentProjections& in,
                        ops::Features) override {
    TANDEM_CHECK(false, "latent attention of {} heads", in.heads);
  }
  void prepare_sampling(int, int) override {}
  void stage_sampling(std::span<const ops::SampleParams>, std::span<uint8_t>) override {}
  void sample(const float*) override {}
  ops::SampleResult sampled(int row) override { TANDEM_CHECK(false, "row {} sampled", row); }
  void route(const ops::GpuRouting& r) override {
    moe::route(cpu_,
               {.experts = r.experts,
                .used = r.used,
                .gating = static_cast<moe::Gating>(r.gating),
                .normalise = r.normalise,
                .scale = r.scale,
                .groups = r.groups,
                .groups_used = r.groups_used,
                .selection_bias = r.selection_bias},
               const_cast<float*>(r.logits), r.tokens, r.ids, r.weights);
  }
  void experts(ops::Workspace&, const ops::GpuExperts& e) override {
    moe::run_experts(
        cpu_, {.routed = {.gate = *e.gate, .up = *e.up, .down = *e.down}, .shared = {}}, grouping_,
        {.x = e.x.f32,
         .ids = e.ids,
         .weights = e.weights,
         .shared_gate = nullptr,
         .tokens = e.tokens,
         .used = e.used,
         .residual = e.residual});
  }
  void add(const float*, const float*, int64_t tokens, int64_t, float*) override {
    TANDEM_CHECK(false, "a shared expert of {} tokens", tokens);
  }

 private:
  static constexpr int kMostExperts = 128, kMostUsed = 8;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };

  std::string name_ = "no GPU";
  std::vector<std::unique_ptr<void, Free>> memory_;
  std::span<std::byte> upload_;
  platform::ThreadPool pool_{{.threads = 1, .pin = false}};
  ops::Workspace workspace_{size_t{256} << 20};
  ops::Context cpu_{.pool = pool_, .cpu = cpu::select(""), .workspace = workspace_};
  moe::Grouping grouping_;
  int64_t live_ = 0;  // tokens of the step without padding
  std::vector<int32_t> ids_, positions_, outputs_;
  std::vector<const int32_t*> pages_;
  std::vector<float> sum_;
};

}  // namespace tandem::engine
