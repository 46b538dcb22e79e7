// What a step's operators share on the device: the step's arrays, and the plan of its attention.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/attention.h"
#include "ops/gpu.h"
#include "platform/cuda/memory.h"

namespace tandem::ops {

// A layer's cache as kernels address it.
cuda::KvCache cuda_cache(const KvLayer& layer);

class StepOnDevice {
 public:
  explicit StepOnDevice(const GpuSizes& sizes);

  // Uploads the arrays and plans attention, padded to `rows` unless 0. The step before must be
  // over.
  GpuStepArrays begin(const GpuStepLayout& layout, int rows, cudaStream_t stream);
  // What a graph was captured with, and may be replayed with again.
  struct Plan {
    cuda::MlaPlan mla;
    cuda::GqaPlan gqa;
    bool operator==(const Plan&) const = default;
  };
  const Plan& plan() const { return plan_; }

  int tokens() const { return tokens_; }
  const int32_t* slots() const { return on_device(slots_); }  // [T] page * page_size + place
  // Of the queries in queries().
  void attention(const KvLayer& layer, float scale, Features out, cudaStream_t stream) const;
  void grouped_attention(const KvLayer& layer, const GroupedProjections& in, Features out,
                         cudaStream_t stream) const;
  // The cache's new rows, and queries(). latent: [T, H, kv_lora] the queries in the cache's space
  void prepare_latent(const KvLayer& layer, const LatentProjections& in, const float* latent,
                      cudaStream_t stream) const;

 private:
  // Arrays lie one after the other, in page-locked memory and on the device at the same offsets, so
  // that one copy takes them all.
  struct Array {
    size_t offset;
  };
  Array add(int count);
  int32_t* on_host(Array a) const { return reinterpret_cast<int32_t*>(staged_.data() + a.offset); }
  const int32_t* on_device(Array a) const {
    return reinterpret_cast<const int32_t*>(device_.data() + a.offset);
  }
  void lay_out(const GpuStepLayout& layout);
  void pad(int rows);
  std::byte* queries() const { return memory_.scratch; }
  void make_plan(cuda::PlanFor purpose, cudaStream_t stream);

  GpuSizes sizes_;
  size_t bytes_ = 0;
  Array ids_, positions_, slots_, output_rows_;               // [T], [T], [T], [B]
  Array token_starts_, page_starts_, keys_, last_page_keys_;  // [B + 1], [B + 1], [B], [B]
  Array pages_;                                               // [P]
  platform::cuda::PinnedMemory staged_;
  platform::cuda::DeviceMemory device_;

  bool latent_;
  cuda::MlaForm form_ = cuda::MlaForm::kAmpere;
  cuda::AttentionSizes launch_sizes_ = {}, graph_sizes_ = {};
  platform::cuda::PinnedMemory plan_staged_;
  platform::cuda::DeviceMemory plan_memory_, scratch_;
  bool decode_supported_;
  platform::cuda::DeviceMemory decode_partial_, decode_counters_;
  cuda::AttentionMemory memory_ = {};
  Plan plan_;
  int tokens_ = 0;
  int requests_ = 0;
  bool decodes_ = false;  // padded rows of one token each, which need no plan
};

}  // namespace tandem::ops
