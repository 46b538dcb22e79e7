// Which rows of a step's logits belong to which slice.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "engine/batch.h"
#include "engine/engine.h"

namespace tandem::engine {

class OutputRows {
 public:
  explicit OutputRows(const EngineInfo& info) : vocab_(info.vocab_size) {
    tokens_.reserve(static_cast<size_t>(info.max_step_sequences));
    of_slices_.reserve(static_cast<size_t>(info.max_step_sequences));
  }

  void clear() {
    tokens_.clear();
    of_slices_.clear();
  }
  // The next slice, whose last token is `last` in the flat batch.
  void add(const SequenceSlice& slice, int32_t last) {
    of_slices_.push_back(slice.sample ? static_cast<int32_t>(tokens_.size()) : -1);
    if (slice.sample) tokens_.push_back(last);
  }

  // The last token of each slice that samples.
  std::span<const int32_t> tokens() const { return tokens_; }
  // [B] row of each slice, -1: it does not sample
  std::span<const int32_t> of_slices() const { return of_slices_; }
  int32_t row_of(int32_t slice) const {
    const int32_t row = of_slices_[static_cast<size_t>(slice)];
    TANDEM_CHECK(row >= 0, "sequence {} of the last step has no logits", slice);
    return row;
  }
  // A slice's row of logits [rows, V].
  std::span<const float> logits_of(int32_t slice, std::span<const float> logits) const {
    const int32_t row = row_of(slice);
    const auto vocab = static_cast<size_t>(vocab_);
    return logits.subspan(static_cast<size_t>(row) * vocab, vocab);
  }

 private:
  int32_t vocab_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> of_slices_;
};

}  // namespace tandem::engine
