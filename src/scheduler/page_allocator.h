// Which KV pages are free. Pages are numbers; what they hold is the engine's business.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace tandem::scheduler {

class PageAllocator {
 public:
  explicit PageAllocator(int32_t pages) : free_(static_cast<size_t>(pages)), total_(pages) {
    std::iota(free_.rbegin(), free_.rend(), 0);  // page 0 is taken first
  }

  int32_t total() const { return total_; }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }

  int32_t take() {
    TANDEM_CHECK(!free_.empty(), "no free page of {}", total_);
    const int32_t page = free_.back();
    free_.pop_back();
    return page;
  }

  // Gives all of them back and empties the list.
  void release(std::vector<int32_t>& pages) {
    free_.insert(free_.end(), pages.rbegin(), pages.rend());
    pages.clear();
    TANDEM_CHECK(free() <= total_, "{} free pages of {}", free(), total_);
  }

 private:
  std::vector<int32_t> free_;
  int32_t total_;
};

}  // namespace tandem::scheduler
