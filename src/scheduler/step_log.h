// The last steps, as /debug/steps and `tandem top` show them: a ring of fixed size that the
// scheduler's thread writes and others copy.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <mutex>
#include <vector>

namespace tandem::scheduler {

struct StepRecord {
  uint64_t number = 0;         // from 1
  int64_t begin_us = 0;        // since the scheduler's start
  int64_t duration_us = 0;     // of the engine and what leads to it
  int32_t prefill_tokens = 0;  // of prompts, and of what is computed again
  int32_t decode_tokens = 0;   // one for each sequence that generates
  int32_t sequences = 0;       // that took part
  int32_t running = 0;         // afterwards
  int32_t waiting = 0;
  int32_t pages_free = 0;
};

// How many steps had how many tokens.
struct StepSizes {
  // The most tokens of each class; the last class is for more.
  static constexpr std::array<int32_t, 13> kBounds = {1,   8,    16,   32,   64,   128,  256,
                                                      512, 1024, 2048, 4096, 8192, 16384};
  std::array<uint64_t, kBounds.size() + 1> steps = {};

  void add(int32_t tokens) {
    ++steps[static_cast<size_t>(std::lower_bound(kBounds.begin(), kBounds.end(), tokens) -
                                kBounds.begin())];
  }
};

class StepLog {
 public:
  void add(const StepRecord& record) {
    const std::lock_guard lock(mutex_);
    records_[added_++ % kSize] = record;
  }

  // Oldest first.
  std::vector<StepRecord> recent() const {
    const std::lock_guard lock(mutex_);
    std::vector<StepRecord> out;
    const uint64_t count = added_ < kSize ? added_ : kSize;
    out.reserve(count);
    for (uint64_t i = added_ - count; i < added_; ++i) out.push_back(records_[i % kSize]);
    return out;
  }

 private:
  static constexpr uint64_t kSize = 2048;  // a minute of a large model, 112 KiB

  mutable std::mutex mutex_;
  std::array<StepRecord, kSize> records_;
  uint64_t added_ = 0;
};

}  // namespace tandem::scheduler
