// How many requests each API key has open: from the moment that one takes its place, before its
// body is parsed, until its last event or its refusal.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "scheduler/scheduler.h"

namespace tandem::scheduler {

// Any thread. Places keep it alive.
class KeyShares : public std::enable_shared_from_this<KeyShares> {
 public:
  // limit: places of a key at most; 0: they are not counted.
  explicit KeyShares(int limit) : limit_(limit) {}

  // key 0 is nobody's and has no limit.
  Result<Place> take(uint64_t key) {
    if (limit_ <= 0 || key == 0) return Place();
    const std::lock_guard lock(mutex_);
    int& open = open_[key];
    if (open >= limit_) {
      return Failure{.message = fmt::format(
                         "{} requests of this key have not ended yet; try again later", open),
                     .param = {},
                     .code = "key_queue_full"};
    }
    ++open;
    return Place(this, [self = shared_from_this(), key](const void*) { self->give_back(key); });
  }

 private:
  void give_back(uint64_t key) {
    const std::lock_guard lock(mutex_);
    const auto open = open_.find(key);
    if (--open->second == 0) open_.erase(open);
  }

  const int limit_;
  std::mutex mutex_;
  std::unordered_map<uint64_t, int> open_;  // keys with none are not in it
};

}  // namespace tandem::scheduler
