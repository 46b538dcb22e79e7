// The inference engine as the scheduler sees it: sizes, and one step at a time, in two halves. No
// CUDA types, so that scheduler and server build and test without a GPU. Steps are run from one
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/batch.h"

namespace tandem::engine {

struct EngineInfo {
  int32_t vocab_size;
  int32_t context_length;      // positions the model supports
  int32_t page_size;           // tokens in a KV page
  int32_t num_pages;           // pages that exist
  int32_t max_step_tokens;     // T of a step at most
  int32_t max_step_sequences;  // B of a step at most
  int64_t page_bytes = 0;      // of a page, all layers together
  uint64_t page_format = 0;    // differs where the bytes of a page mean something else
};

// Copies on the GPU of routed experts that are in host memory; of the engine's life so far.
struct HotStatistics {
  int64_t pairs = 0;  // (token, routed expert) of layers with slots
  int64_t hits = 0;   // of these, computed on the GPU
  int slots = 0, used_slots = 0;
  int64_t switches = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;

  // Runs the model over the batch and samples. Neither half throws for requests nor returns codes
  // for bugs; an exception of either ends the step, and the engine takes the next one.
  //
  // begin() starts what runs elsewhere, and returns without waiting for it. What needs the calling
  // thread, on the CPU the whole step, is done in finish(). The batch and all that it refers to
  // stay as they are until finish() has returned; its results are valid until the next begin().
  virtual void begin(const Batch& batch) = 0;
  virtual StepResult finish() = 0;
  // Between the two: whether finish() would only wait, so that the caller has time for other work.
  virtual bool running() { return false; }
  // After a step that failed: all later ones would, too.
  virtual bool broken() { return false; }

  StepResult step(const Batch& batch) {
    begin(batch);
    return finish();
  }

  // The contents of a KV page, opaque bytes [page_bytes]: written into any page of an engine with
  // the same model and page_format, they stand for the same tokens at the same positions. Any
  // thread may call these beside a step and each other, as long as nobody writes a page that
  // another call uses: the caller sees to that.
  virtual void read_page(int32_t page, std::span<std::byte> out) = 0;
  virtual void write_page(int32_t page, std::span<const std::byte> in) = 0;
  virtual void copy_page(int32_t from, int32_t to) = 0;

  // Between steps; none: there are no such copies.
  virtual std::optional<HotStatistics> hot_statistics() const { return std::nullopt; }
};

}  // namespace tandem::engine
