// Slots of hot experts in device memory (ops/hot_slots.h): a layer's slots are stacks of their own,
// so that the kernels for experts run over them as over a layer of fewer experts.
#pragma once

#include <deque>
#include <vector>

#include "ops/cuda/device_budget.h"
#include "ops/hot_slots.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"

namespace tandem::ops {

// What a step's kernels need of a layer. Without slots all is null.
struct HotLayer {
  int index = -1;
  Tensor gate, up, down;                  // [slots, ...] on the device
  const int32_t* slot_of = nullptr;       // [E] of the table
  std::span<const int32_t> host_slot_of;  // [E] the same on the host, as of this step
  int32_t* ids = nullptr;  // [T, K] slots of the step's experts, as the hand-off found them
};

class CudaHotSlots : public HotSlots {
 public:
  // Without it no layer has slots. Once.
  void reserve(const HotSlotsSizes& sizes, DeviceBudget& memory);

  void map(int layer, int expert, int slot) override;
  void begin_copy(int layer, int expert, int slot) override;
  int advance(platform::ThreadPool& pool, bool wait) override;
  std::span<const uint32_t> pairs() const override { return pairs_; }
  int64_t hits() const override { return hits_; }
  void forget() override;

  // The layer by its stack of gates, or an empty one.
  const HotLayer& find(const Tensor& gate) const;
  // Has later work on the stream see the table as it is; before a step.
  void upload_table(cudaStream_t stream);
  // Of the hand-off of layer `index`, if it has slots: ids as the host sees them. [T, K]
  void count(int layer, const int32_t* ids, int64_t tokens);

 private:
  // Bytes of one expert that lie contiguous on both sides.
  struct Piece {
    const std::byte* from;
    std::byte* to;
    size_t bytes;
    bool last;  // of its expert
  };
  void stage(platform::ThreadPool& pool);
  void add_pieces(const Tensor& from, const Tensor& to, int expert, int slot);

  int experts_ = 0, used_ = 0;
  std::vector<HotLayerSource> sources_;
  std::vector<HotLayer> layers_;
  HotLayer none_;
  platform::cuda::DeviceMemory table_, ids_;  // [L, E], [T, K]
  platform::cuda::PinnedMemory host_table_;
  bool table_changed_ = false;
  std::vector<uint32_t> pairs_;
  int64_t hits_ = 0;

  std::deque<Piece> pieces_;  // to be copied, the first from byte done_ on
  size_t done_ = 0;
  int arriving_ = 0;  // experts whose last piece is on its way
  platform::cuda::PinnedMemory staging_;
  platform::cuda::Stream copies_;
  platform::cuda::Event staged_;
};

}  // namespace tandem::ops
