// Commands from any thread to the scheduler's; waiting for one costs no CPU.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler/scheduler.h"

namespace tandem::scheduler {

struct Submit {
  RequestId id;
  Request request;
  double at = 0.0;  // by the scheduler's clock
};
struct Cancel {
  RequestId id;
};
struct Wake {};  // something ended that the scheduler may wait for
struct Stop {};
using Command = std::variant<Submit, Cancel, Wake, Stop>;

class Mailbox {
 public:
  void post(Command command) {
    {
      const std::lock_guard lock(mutex_);
      commands_.push_back(std::move(command));
    }
    arrived_.notify_one();
  }

  bool empty() const {
    const std::lock_guard lock(mutex_);
    return commands_.empty();
  }

  // Moves all commands to `out`, which is empty; sleeps until there is one, no longer than so many
  // seconds.
  void take(std::vector<Command>& out, double seconds) {
    std::unique_lock lock(mutex_);
    if (seconds > 0.0) {
      const std::chrono::duration<double> longest(std::min(seconds, kLongestSleep));
      arrived_.wait_for(lock, longest, [&] { return !commands_.empty(); });
    }
    std::swap(out, commands_);
  }

 private:
  static constexpr double kLongestSleep = 3600.0;  // clocks can add it to any time

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Command> commands_;
};

}  // namespace tandem::scheduler
