// Copies of routed experts in GPU memory, of layers whose experts are in host memory: the GPU
// computes a step's tokens of these experts itself, the CPU the others meanwhile. Each layer has
// slots of one expert (gate, up, down), and a table expert -> slot in device memory, which the
// hand-off reads (kernels/cuda/hand_off.h): what the table says at that moment is what both sides
// do, and graphs need not be captured again when an expert moves.
//
// All is called between steps, by the thread that runs them.
#pragma once

#include <cstdint>
#include <span>

#include "base/tensor.h"
#include "platform/thread_pool.h"

namespace tandem::ops {

// A layer's stacks in host memory, in panels; gate and up of one type.
struct HotLayerSource {
  const Tensor* gate;  // [E, F, M]
  const Tensor* up;    // [E, F, M]
  const Tensor* down;  // [E, M, F]
  int slots;           // to reserve; 0: the layer has none
};
struct HotSlotsSizes {
  std::span<const HotLayerSource> layers;
  int used;                // K
  int64_t max_tokens;      // of a step
  int64_t max_generating;  // of a step that only generates
};

class HotSlots {
 public:
  virtual ~HotSlots() = default;

  // Device memory that a slot of the layer takes.
  static int64_t slot_bytes(const HotLayerSource& layer);

  // From the next step on the expert is in the slot; -1: in host memory alone.
  virtual void map(int layer, int expert, int slot) = 0;
  // Will copy an expert into a slot that none is mapped to, behind the copies begun before.
  virtual void begin_copy(int layer, int expert, int slot) = 0;
  // Goes on with the copies by some megabytes, which arrive beside the next step. Returns how many
  // of them, in their order, have arrived whole since the last call. wait: for what is on its way;
  // else nothing happens before that is there.
  virtual int advance(platform::ThreadPool& pool, bool wait) = 0;

  // [L, E] (token, expert) pairs since forget(), and of all of them those that the GPU computed.
  virtual std::span<const uint32_t> pairs() const = 0;
  virtual int64_t hits() const = 0;
  virtual void forget() = 0;
};

}  // namespace tandem::ops
