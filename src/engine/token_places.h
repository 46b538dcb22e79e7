// Where each token of a batch stands, in the form that operators on the CPU read.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/batch.h"
#include "engine/engine.h"
#include "ops/attention.h"

namespace tandem::engine {

class TokenPlaces {
 public:
  explicit TokenPlaces(const EngineInfo& info)
      : positions_(static_cast<size_t>(info.max_step_tokens)),
        pages_(static_cast<size_t>(info.max_step_tokens)) {}

  // Valid until the next call, as long as the batch is.
  ops::PagedTokens lay_out(const Batch& batch) {
    size_t token = 0;
    for (const SequenceSlice& slice : batch.sequences) {
      for (int32_t i = 0; i < slice.num_tokens; ++i, ++token) {
        positions_[token] = slice.position + i;
        pages_[token] = slice.pages.data();
      }
    }
    return {static_cast<int64_t>(token), positions_.data(), pages_.data()};
  }

 private:
  std::vector<int32_t> positions_;     // [T]
  std::vector<const int32_t*> pages_;  // [T] page list of the token's sequence
};

}  // namespace tandem::engine
