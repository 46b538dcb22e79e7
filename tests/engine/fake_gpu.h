// Stands in for a GPU while an engine is set up: gives device memory out of reserved addresses, and
// refuses what it is told to. It computes nothing.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/error.h"
#include "ops/gpu.h"
#include "platform/reservation.h"

namespace tandem::engine {

class FakeGpu : public ops::Gpu {
 public:
  using Workspace = ops::Workspace;

  bool refuses_locks = false, refuses_buffers = false;
  std::vector<std::string> calls;  // of prepare_streaming and lock

  std::byte* allocate(int64_t bytes, const char*) override {
    return memory_.emplace_back(bytes).data();
  }
  void upload(std::span<const std::byte>, std::byte*) override {}
  bool has_kernels(DType) const override { return true; }
  bool has_expert_kernels(DType) const override { return true; }
  std::shared_ptr<void> lock(std::span<std::byte> memory) override {
    calls.push_back("lock");
    if (refuses_locks) throw Error("cannot lock {} MiB: as told", memory.size() >> 20);
    return std::make_shared<int>(0);
  }
  void prepare_streaming(int64_t layer_bytes) override {
    calls.push_back(layer_bytes > 0 ? "take buffers" : "give buffers back");
    if (layer_bytes > 0 && refuses_buffers) throw Error("no room for buffers: as told");
  }

  int64_t free_bytes() const override { unexpected(); }
  const std::string& name() const override { unexpected(); }
  std::span<std::byte> upload_buffer() override { unexpected(); }
  void transfer(std::span<const Transfer>) override { unexpected(); }
  std::string unsupported(const ops::GpuSizes&) const override { unexpected(); }
  void prepare(const ops::GpuSizes&) override { unexpected(); }
  ops::GpuStepArrays begin_step(const ops::GpuStepLayout&, int) override { unexpected(); }
  void begin_host_experts(const ops::GpuExperts&) override { unexpected(); }
  void end_host_experts(const ops::GpuExperts&, ops::HostWork) override { unexpected(); }
  ops::HotSlots& reserve_hot_slots(const ops::HotSlotsSizes&) override { unexpected(); }
  void hot_experts(Workspace&, const ops::GpuExperts&) override { unexpected(); }
  bool streams_experts() const override { unexpected(); }
  void stream_experts(Workspace&, const ops::GpuExperts&) override { unexpected(); }
  void capture(int, const std::function<void()>&) override { unexpected(); }
  bool replay(int) override { unexpected(); }
  void work_off() override { unexpected(); }
  ops::HostTimes host_times() const override { unexpected(); }
  void read(const void*, size_t, std::byte*) override { unexpected(); }
  std::span<std::byte> pinned(size_t) override { unexpected(); }
  void wait() override { unexpected(); }
  bool busy() override { unexpected(); }
  bool broken() override { unexpected(); }
  void embed(const Tensor&, const int32_t*, int64_t, float*) override { unexpected(); }
  void rms_norm(ops::RowsView, int64_t, const Tensor&, float, ops::RowsView) override {
    unexpected();
  }
  void fill_rope_table(const ops::RopeConfig&, const double*, const int32_t*, int64_t,
                       float*) override {
    unexpected();
  }
  void gather_rows(const float*, const int32_t*, int64_t, int64_t, float*) override {
    unexpected();
  }
  void linear(Workspace&, ops::Input, int64_t, std::span<const ops::Projection>) override {
    unexpected();
  }
  void feed_forward(Workspace&, ops::Input, int64_t, const Tensor&, const Tensor&,
                    const ops::Projection&) override {
    unexpected();
  }
  void linear_per_head(Workspace&, ops::HeadsView, int64_t, const Tensor&,
                       ops::HeadsView) override {
    unexpected();
  }
  void grouped_attention(const ops::KvLayer&, const ops::GroupedProjections&,
                         ops::Features) override {
    unexpected();
  }
  void latent_attention(Workspace&, const ops::KvLayer&, const ops::LatentProjections&,
                        ops::Features) override {
    unexpected();
  }
  void prepare_sampling(int, int) override { unexpected(); }
  void stage_sampling(std::span<const ops::SampleParams>, std::span<uint8_t>) override {
    unexpected();
  }
  void sample(const float*) override { unexpected(); }
  ops::SampleResult sampled(int) override { unexpected(); }
  void route(const ops::GpuRouting&) override { unexpected(); }
  void experts(Workspace&, const ops::GpuExperts&) override { unexpected(); }
  void add(const float*, const float*, int64_t, int64_t, float*) override { unexpected(); }

 private:
  [[noreturn]] static void unexpected() { TANDEM_CHECK(false, "not while an engine is set up"); }

  std::deque<platform::Reservation> memory_;
};

}  // namespace tandem::engine
