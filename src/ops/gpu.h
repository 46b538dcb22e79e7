// The operators on a GPU, behind plain types: rooms above ops, and builds without CUDA, know this
// class alone. An operator of ops or moe whose context names a Gpu hands its operands on; all
// activations are device memory then, and work is enqueued on one stream in the order of the calls,
// so the workspace's stack order holds on the device as well.
//
// A step:   begin_step(layout)  uploads the step's arrays and plans attention
//           forward             enqueues operators, or replay() what was captured of them, then
//                               work_off() the host's part of that
//           read(), wait()      results in page-locked host memory
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/tensor.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/hot_slots.h"
#include "ops/linear.h"
#include "ops/prepared_attention.h"
#include "ops/rope.h"
#include "ops/sample.h"

namespace tandem::ops {

// What attention and the step's arrays are sized for.
struct GpuSizes {
  KvLayer cache;  // form of one layer
  int heads;      // H
  int max_tokens;
  int max_sequences;
  int max_pages;  // of all sequences of a step together
  // Of routed experts in host memory; 0: there are none.
  int64_t host_expert_width = 0;  // M
  int host_experts_used = 0;      // K
  int deferred_experts = 0;       // of these, in steps that only generate (HostExperts)
};

// A step as it is laid out on the host. Sequences' tokens follow each other.
struct GpuStepLayout {
  std::span<const int32_t> ids;  // [T]
  struct Sequence {
    int32_t tokens;
    int32_t position;                // of the first
    std::span<const int32_t> pages;  // of positions 0 .. position + tokens - 1
  };
  std::span<const Sequence> sequences;   // [B]
  std::span<const int32_t> output_rows;  // tokens whose logits are wanted
};
// The same arrays on the device.
struct GpuStepArrays {
  const int32_t* ids;
  const int32_t* positions;
  const int32_t* output_rows;
};

// As moe::RoutingConfig.
struct GpuRouting {
  const float* logits;          // [T, E]
  const float* selection_bias;  // [E] or null
  int32_t* ids;                 // [T, K]
  float* weights;               // [T, K]
  int experts, used;
  uint8_t gating;  // value of the GGUF key expert_gating_func
  bool normalise;
  float scale;
  int groups, groups_used;
  int64_t tokens;
};

// Routed experts: residual[t] += sum over ranks of weights * expert(x[t]).
struct GpuExperts {
  const Tensor* gate;  // [E, F, M]
  const Tensor* up;    // [E, F, M]
  const Tensor* down;  // [E, M, F]
  Input x;             // [T, M]
  const int32_t* ids;  // [T, K]
  const float* weights;
  int64_t tokens;
  int used;
  float* residual;    // [T, M]
  bool last = false;  // layer of the model: none of its experts can be added later
};

// The same operands in page-locked memory, for routed experts whose weights the host has.
struct HostExperts {
  const float* x;      // [T, M]
  const int32_t* ids;  // ~id of an expert that the GPU has in a slot (ops/hot_slots.h)
  const float* weights;
  int64_t tokens;  // of the step, without padding
  float* sum;      // [T, M] what the GPU adds in this layer
  bool sum_begun;  // it holds what the layer before deferred; else it is undefined
  // The experts of each token's last `deferred` ranks, the least of them, are computed while the
  // GPU runs the next layer, and added there. 0 and null: none.
  int deferred;
  float* next_sum;  // [T, M] of the next layer
};
// The host's part of a layer's experts: what the GPU waits for, and then what it does not.
struct HostWork {
  std::function<void(const HostExperts&)> now, later;
};

// Seconds of a replayed step's hand-offs: the host's own until it has answered the last one, and
// the GPU's waits for it.
struct HostTimes {
  double waited = 0.0, worked = 0.0;
  double gpu_waited = 0.0;
};

class Gpu {
 public:
  virtual ~Gpu() = default;

  // Device memory that lives as long as this object, aligned to 256 bytes. Throws Error with what
  // was wanted, for what, and what is free.
  virtual std::byte* allocate(int64_t bytes, const char* purpose) = 0;
  virtual int64_t free_bytes() const = 0;
  virtual const std::string& name() const = 0;
  // Copies to the device; done when it returns. Quick from upload_buffer().
  virtual void upload(std::span<const std::byte> host, std::byte* device) = 0;
  virtual std::span<std::byte> upload_buffer() = 0;  // page-locked

  // Copies between any two places, on the host or the device, beside the step's stream; done when
  // it returns. Any thread.
  struct Transfer {
    const void* from;
    void* to;
    size_t bytes;
  };
  virtual void transfer(std::span<const Transfer> transfers) = 0;

  // Whether attention has kernels for the form; else the reason.
  virtual std::string unsupported(const GpuSizes& sizes) const = 0;
  static int64_t page_bytes(const KvLayer& form);
  // Page-locked memory that prepare() takes to hand experts on; 0 where the host has none.
  static int64_t hand_off_bytes(const GpuSizes& sizes);
  // Of the workspace, for experts() alone.
  static size_t experts_workspace_bytes(const Tensor& gate, int64_t tokens, int used);
  // Whether weights of the type can be multiplied with; those of routed experts.
  virtual bool has_kernels(DType type) const = 0;
  virtual bool has_expert_kernels(DType type) const = 0;
  virtual void prepare(const GpuSizes& sizes) = 0;
  // rows: 0, or for a graph of so many tokens, one each of as many sequences: the step's are filled
  // up with padding, whose results nobody reads.
  virtual GpuStepArrays begin_step(const GpuStepLayout& layout, int rows = 0) = 0;
  // Routed experts on the host: operands go there when all that was enqueued before begin is done;
  // work.now runs on this thread, what is enqueued between the two calls runs on the GPU meanwhile,
  // and what is enqueued afterwards sees residual + sum; work.later runs beside that. Under capture
  // `work` is kept, and runs in work_off() after every replay. Operands share the memory that
  // prepare() reserved: one begin, then its end.
  virtual void begin_host_experts(const GpuExperts& experts) = 0;
  virtual void end_host_experts(const GpuExperts& experts, HostWork work) = 0;

  // Slots for hot experts, once, which live as long as this object; before graphs are captured.
  virtual HotSlots& reserve_hot_slots(const HotSlotsSizes& sizes) = 0;
  // Between begin_host_experts and its end: as experts(), of those that have a slot; the host sees
  // their ids negative. Enqueues nothing for a layer without slots.
  virtual void hot_experts(Workspace& workspace, const GpuExperts& experts) = 0;

  // Page-locks memory for stream_experts() until the handle is gone, which must be before the
  // memory and this object are. Throws Error where that is refused.
  virtual std::shared_ptr<void> lock(std::span<std::byte> memory) = 0;
  // Takes the buffers of stream_experts(), for layers of so many bytes at most; 0: gives them back.
  // Throws Error where the GPU has not the memory.
  virtual void prepare_streaming(int64_t layer_bytes) = 0;
  // There are buffers, and the step is none of graphs, replayed or not: theirs stay on the host.
  virtual bool streams_experts() const = 0;
  // As experts(), of weights in host memory; the copy runs beside what was enqueued before.
  virtual void stream_experts(Workspace& workspace, const GpuExperts& experts) = 0;

  // Captures what enqueue() puts on the stream, after a begin_step() for `rows`; nothing of it
  // runs.
  virtual void capture(int rows, const std::function<void()>& enqueue) = 0;
  // Launches the graph for the step begun. False: there is none, or it was captured with another
  // plan of attention; then enqueue the operators themselves.
  virtual bool replay(int rows) = 0;
  // The host's part of the graph launched; where it has one, the GPU waits for that.
  virtual void work_off() = 0;
  // Of the last replay, after wait().
  virtual HostTimes host_times() const = 0;
  // Copies to page-locked memory, valid after wait().
  virtual void read(const void* device, size_t bytes, std::byte* host) = 0;
  // Copies from page-locked memory, which stays as it is until wait() has returned.
  virtual void write(std::span<const std::byte> host, std::byte* device) = 0;
  // Page-locked memory for it, which lives as long as this object.
  virtual std::span<std::byte> pinned(size_t bytes) = 0;
  virtual void wait() = 0;
  virtual bool busy() = 0;  // whether wait() would wait
  // Whether a fault took the device's context with it: no call succeeds any more.
  virtual bool broken() = 0;

  virtual void embed(const Tensor& table, const int32_t* ids, int64_t tokens, float* out) = 0;
  virtual void rms_norm(RowsView x, int64_t rows, const Tensor& weight, float epsilon,
                        RowsView y) = 0;
  virtual void fill_rope_table(const RopeConfig& config, const double* frequencies,
                               const int32_t* positions, int64_t tokens, float* table) = 0;
  virtual void gather_rows(const float* x, const int32_t* rows, int64_t count, int64_t width,
                           float* out) = 0;
  virtual void linear(Workspace& workspace, Input x, int64_t tokens,
                      std::span<const Projection> projections) = 0;
  // As ops::feed_forward.
  virtual void feed_forward(Workspace& workspace, Input x, int64_t tokens, const Tensor& gate,
                            const Tensor& up, const Projection& down) = 0;
  virtual void linear_per_head(Workspace& workspace, HeadsView x, int64_t tokens, const Tensor& w,
                               HeadsView y) = 0;
  // As in ops/prepared_attention.h.
  virtual void grouped_attention(const KvLayer& layer, const GroupedProjections& in,
                                 Features out) = 0;
  virtual void latent_attention(Workspace& workspace, const KvLayer& layer,
                                const LatentProjections& in, Features out) = 0;
  // Memory for sampling from up to `rows` rows of `vocab` logits, at start.
  virtual void prepare_sampling(int rows, int vocab) = 0;
  // As ops::sample, from each row of logits [B, V]: the same tokens, in two calls. The first
  // uploads the rows' settings; before what computes the logits, it costs the step nothing.
  // taken[i] = 0: row i's settings are beyond the kernels, and it is not sampled. sampled() gives
  // the others' after wait(); it is valid until the next call.
  virtual void stage_sampling(std::span<const SampleParams> rows, std::span<uint8_t> taken) = 0;
  virtual void sample(const float* logits) = 0;
  virtual SampleResult sampled(int row) = 0;
  virtual void route(const GpuRouting& routing) = 0;
  virtual void experts(Workspace& workspace, const GpuExperts& experts) = 0;
  // y[t] += factor[t] * x[t], the factor's sigmoid if wanted; without factor y += x. [T, n]
  virtual void add(const float* x, const float* sigmoid_factor, int64_t tokens, int64_t n,
                   float* y) = 0;
};

// The first GPU; with memory_bytes > 0 as if it had no more memory than that for this program.
// Throws Error where there is none or the build has no CUDA.
std::unique_ptr<Gpu> open_gpu(int64_t memory_bytes = 0);

}  // namespace tandem::ops
