// The kernel pool copies a few megabytes into page-locked memory, the bus takes them while the next
// step runs. The weights themselves need not be page-locked, which takes seconds and which systems
// refuse; and a step begins some 100 us later at most.
#include "ops/cuda/hot_slots.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "ops/context.h"
#include "platform/cuda/error.h"
#include "quant/panels.h"
#include "quant/parts.h"

namespace tandem::ops {
namespace {

// 16 threads fill it in some 100 us, at the 75 GB/s that they copy; the bus reads it in 150 us:
// less than a step.
constexpr size_t kStagingBytes = size_t{8} << 20;
// A thread's share of filling it, at least.
constexpr int64_t kCopyGrain = int64_t{64} << 10;

Tensor in_slots(const Tensor& stack, int slots) {
  Tensor form = stack;
  form.device = Device::kCuda;
  form.parts = 1;
  form.shape = shape(slots, stack.shape.inner(1), stack.cols());
  form.data = nullptr;
  return form;
}

int64_t bytes_for(const Tensor& stack, int slots) {
  return static_cast<int64_t>(
      Workspace::aligned(static_cast<size_t>(quant::stack_bytes(in_slots(stack, slots)))));
}

}  // namespace

int64_t HotSlots::slot_bytes(const HotLayerSource& layer) {
  int64_t bytes = 0;
  for (const Tensor* w : {layer.gate, layer.up, layer.down}) {
    bytes += quant::stack_bytes(in_slots(*w, 1));
  }
  return bytes;
}

void CudaHotSlots::reserve(const HotSlotsSizes& sizes, DeviceBudget& memory) {
  using platform::cuda::DeviceMemory, platform::cuda::PinnedMemory;
  TANDEM_CHECK(sources_.empty(), "slots are reserved already");
  sources_.assign(sizes.layers.begin(), sizes.layers.end());
  experts_ = static_cast<int>(sources_.front().gate->shape.inner(2));
  used_ = sizes.used;
  pairs_.resize(sources_.size() * static_cast<size_t>(experts_));
  table_ = DeviceMemory(pairs_.size() * sizeof(int32_t));
  host_table_ = PinnedMemory(table_.bytes());
  table_changed_ = true;
  const int64_t tokens = std::max(sizes.max_tokens, sizes.max_generating);
  ids_ = DeviceMemory(static_cast<size_t>(tokens * sizes.used) * sizeof(int32_t));
  staging_ = PinnedMemory(kStagingBytes);
  std::fill_n(host_table_.as<int32_t>(), pairs_.size(), -1);
  for (size_t i = 0; i < sources_.size(); ++i) {
    const HotLayerSource& source = sources_[i];
    HotLayer& layer = layers_.emplace_back();
    if (source.slots == 0) continue;
    layer = {.index = static_cast<int>(i),
             .gate = in_slots(*source.gate, source.slots),
             .up = in_slots(*source.up, source.slots),
             .down = in_slots(*source.down, source.slots),
             .slot_of = table_.as<int32_t>() + i * static_cast<size_t>(experts_),
             .host_slot_of = {host_table_.as<int32_t>() + i * static_cast<size_t>(experts_),
                              static_cast<size_t>(experts_)},
             .ids = ids_.as<int32_t>()};
    const int64_t gate = bytes_for(*source.gate, source.slots);
    const int64_t up = bytes_for(*source.up, source.slots);
    std::byte* data =
        memory.allocate(gate + up + bytes_for(*source.down, source.slots), "hot experts");
    layer.gate.data = data;
    layer.up.data = data + gate;
    layer.down.data = data + gate + up;
  }
}

const HotLayer& CudaHotSlots::find(const Tensor& gate) const {
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (sources_[i].gate->data == gate.data) return layers_[i];
  }
  return none_;
}

void CudaHotSlots::map(int layer, int expert, int slot) {
  const HotLayerSource& source = sources_[static_cast<size_t>(layer)];
  TANDEM_CHECK(slot < source.slots && expert < experts_, "slot {} of {} for expert {}", slot,
               source.slots, expert);
  host_table_.as<int32_t>()[layer * experts_ + expert] = slot;
  table_changed_ = true;
}

void CudaHotSlots::upload_table(cudaStream_t stream) {
  if (!std::exchange(table_changed_, false)) return;
  TANDEM_CUDA_CALL(cudaMemcpyAsync(table_.data(), host_table_.data(), table_.bytes(),
                                   cudaMemcpyHostToDevice, stream));
}

void CudaHotSlots::add_pieces(const Tensor& from, const Tensor& to, int expert, int slot) {
  const int64_t n = from.shape.inner(1);
  for (int part = 0; part < from.parts; ++part) {
    const quant::RowRange rows = quant::rows_of_part(n, from.parts, part);
    if (rows.begin == rows.end) continue;
    const int64_t bytes =
        quant::matrix_bytes(from.dtype, from.layout, rows.end - rows.begin, from.cols());
    pieces_.push_back({quant::rows_at(from, expert, rows.begin),
                       const_cast<std::byte*>(quant::rows_at(to, slot, rows.begin)),
                       static_cast<size_t>(bytes), false});
  }
}

void CudaHotSlots::begin_copy(int layer, int expert, int slot) {
  const HotLayerSource& source = sources_[static_cast<size_t>(layer)];
  const HotLayer& to = layers_[static_cast<size_t>(layer)];
  add_pieces(*source.gate, to.gate, expert, slot);
  add_pieces(*source.up, to.up, expert, slot);
  add_pieces(*source.down, to.down, expert, slot);
  pieces_.back().last = true;
}

int CudaHotSlots::advance(platform::ThreadPool& pool, bool wait) {
  if (wait) staged_.synchronize();
  const cudaError_t status = cudaEventQuery(staged_.get());
  if (status == cudaErrorNotReady) return 0;
  platform::cuda::check(status, "a copy of a hot expert");
  const int arrived = std::exchange(arriving_, 0);
  if (!pieces_.empty()) stage(pool);
  return arrived;
}

void CudaHotSlots::stage(platform::ThreadPool& pool) {
  size_t used = 0;
  while (!pieces_.empty() && used < kStagingBytes) {
    const Piece& piece = pieces_.front();
    const size_t bytes = std::min(piece.bytes - done_, kStagingBytes - used);
    const std::byte* from = piece.from + done_;
    std::byte* staged = staging_.data() + used;
    pool.parallel_for(static_cast<int64_t>(bytes), kCopyGrain,
                      [&](int64_t begin, int64_t end, int) {
                        std::memcpy(staged + begin, from + begin, static_cast<size_t>(end - begin));
                      });
    TANDEM_CUDA_CALL(
        cudaMemcpyAsync(piece.to + done_, staged, bytes, cudaMemcpyHostToDevice, copies_.get()));
    used += bytes;
    done_ += bytes;
    if (done_ < piece.bytes) break;
    arriving_ += piece.last ? 1 : 0;
    pieces_.pop_front();
    done_ = 0;
  }
  staged_.record(copies_.get());
}

void CudaHotSlots::count(int layer, const int32_t* ids, int64_t tokens) {
  if (layer < 0) return;
  uint32_t* pairs = pairs_.data() + static_cast<ptrdiff_t>(layer) * experts_;
  for (int64_t i = 0; i < tokens * used_; ++i) {
    hits_ += ids[i] < 0;
    ++pairs[ids[i] < 0 ? ~ids[i] : ids[i]];
  }
}

void CudaHotSlots::forget() {
  std::fill(pairs_.begin(), pairs_.end(), 0U);
  hits_ = 0;
}

}  // namespace tandem::ops
