// Copies of KV pages in the host's memory, the longest unused given up first. Not thread-safe.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <unordered_map>

#include "scheduler/page_name.h"

namespace tandem::scheduler {

class HostPages {
 public:
  using Buffer = std::unique_ptr<std::byte[]>;  // [page_bytes]

  explicit HostPages(int64_t capacity) : capacity_(capacity) {}

  int64_t capacity() const { return capacity_; }
  int64_t size() const { return static_cast<int64_t>(pages_.size()); }
  bool has(const PageName& name) const { return pages_.contains(name); }

  void touch(const PageName& name) {
    const auto found = pages_.find(name);
    if (found != pages_.end()) by_use_.splice(by_use_.begin(), by_use_, found->second);
  }

  // The copy, until the next put(); null: there is none.
  const std::byte* find(const PageName& name) {
    touch(name);
    const auto found = pages_.find(name);
    return found == pages_.end() ? nullptr : found->second->buffer.get();
  }

  // Keeps a copy. What comes back may be filled anew: the buffer of one given up, or none.
  Buffer put(const PageName& name, Buffer buffer) {
    if (capacity_ == 0 || has(name)) return buffer;
    Buffer spare;
    if (size() == capacity_) {
      spare = std::move(by_use_.back().buffer);
      pages_.erase(by_use_.back().name);
      by_use_.pop_back();
    }
    by_use_.push_front({name, std::move(buffer)});
    pages_[name] = by_use_.begin();
    return spare;
  }

 private:
  struct Page {
    PageName name;
    Buffer buffer;
  };

  const int64_t capacity_;  // in pages
  std::list<Page> by_use_;  // the last used first
  std::unordered_map<PageName, std::list<Page>::iterator, Hash128Hasher> pages_;
};

}  // namespace tandem::scheduler
