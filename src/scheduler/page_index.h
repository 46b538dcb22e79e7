// Finds pages by a hash. Chains through arrays of the pages' own numbers: nothing is allocated
// after the start, and taking a page out needs no search.
//
//   heads [2^k]: hash -> first page      next, previous [P]: the pages of the same chain
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace tandem::scheduler {

class PageIndex {
 public:
  static constexpr int32_t kNone = -1;

  explicit PageIndex(int32_t pages)
      : heads_(std::bit_ceil(static_cast<size_t>(pages) + 1), kNone),
        next_(static_cast<size_t>(pages), kNone),
        previous_(static_cast<size_t>(pages), kNone) {}

  // The first page whose hash may be this one, then those after it; kNone at the end.
  int32_t first(uint64_t hash) const { return heads_[hash & (heads_.size() - 1)]; }
  int32_t next(int32_t page) const { return next_[static_cast<size_t>(page)]; }

  void insert(uint64_t hash, int32_t page) {
    int32_t& head = heads_[hash & (heads_.size() - 1)];
    const auto p = static_cast<size_t>(page);
    next_[p] = head;
    previous_[p] = kNone;
    if (head != kNone) previous_[static_cast<size_t>(head)] = page;
    head = page;
  }

  void remove(uint64_t hash, int32_t page) {
    const auto p = static_cast<size_t>(page);
    if (previous_[p] == kNone) {
      heads_[hash & (heads_.size() - 1)] = next_[p];
    } else {
      next_[static_cast<size_t>(previous_[p])] = next_[p];
    }
    if (next_[p] != kNone) previous_[static_cast<size_t>(next_[p])] = previous_[p];
  }

 private:
  std::vector<int32_t> heads_, next_, previous_;
};

}  // namespace tandem::scheduler
