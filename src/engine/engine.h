// The inference engine as the scheduler sees it: sizes, and one synchronous step. No CUDA types, so
// that scheduler and server build and test without a GPU. Called from one thread.
#pragma once

#include <cstdint>

#include "engine/batch.h"

namespace tandem::engine {

struct EngineInfo {
  int32_t vocab_size;
  int32_t context_length;      // positions the model supports
  int32_t page_size;           // tokens in a KV page
  int32_t num_pages;           // pages that exist
  int32_t max_step_tokens;     // T of a step at most
  int32_t max_step_sequences;  // B of a step at most
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const EngineInfo& info() const = 0;

  // Runs the model over the batch and samples. Neither throws for requests nor returns codes for
  // bugs; results stay valid until the next call.
  virtual StepResult step(const Batch& batch) = 0;
};

}  // namespace tandem::engine
