// How many requests one API key may have at once, so that one client cannot take all places.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>
#include <vector>

namespace tandem::server {

class KeyLimit {
 public:
  // keys: their number; limit 0: none.
  KeyLimit(size_t keys, int limit) : limit_(limit), running_(keys) {}

  // One request's place; given back at its end.
  class Place {
   public:
    Place() = default;
    explicit Place(std::atomic<int>* count) : count_(count) {}
    ~Place() {
      if (count_ != nullptr) --*count_;
    }
    Place(Place&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
    Place& operator=(Place&&) = delete;

    explicit operator bool() const { return count_ != nullptr; }

   private:
    std::atomic<int>* count_ = nullptr;
  };

  // Without a place: the key has as many requests as it may.
  Place enter(size_t key) {
    std::atomic<int>& count = running_[key];
    if (count.fetch_add(1) < limit_ || limit_ == 0) return Place(&count);
    --count;
    return {};
  }

  int limit() const { return limit_; }

 private:
  const int limit_;
  std::vector<std::atomic<int>> running_;
};

}  // namespace tandem::server
