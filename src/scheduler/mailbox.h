// Commands from any thread to the scheduler's; waiting for one costs no CPU.
#pragma once

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

  // Moves all commands to `out`, which is empty; with `wait`, sleeps until there is one.
  void take(std::vector<Command>& out, bool wait) {
    std::unique_lock lock(mutex_);
    if (wait) arrived_.wait(lock, [&] { return !commands_.empty(); });
    std::swap(out, commands_);
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Command> commands_;
};

}  // namespace tandem::scheduler
