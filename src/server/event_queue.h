// The way of token events from the scheduler's thread to the connection that waits for them.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "scheduler/scheduler.h"

namespace tandem::server {

// Stands between the scheduler and all queues. The end of the server closes it: from then on no
// event reaches an executor.
class EventGate {
 public:
  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  template <typename Body>
  void pass(const Body& body) {
    const std::lock_guard lock(mutex_);
    if (open_) body();
  }

 private:
  std::mutex mutex_;
  bool open_ = true;
};

// One for each request. A client that reads slowly costs memory only up to a limit; then what comes
// is dropped, and whoever fills the queue is told to end it.
class EventQueue : public std::enable_shared_from_this<EventQueue> {
 public:
  using Clock = std::chrono::steady_clock;
  struct Item {
    size_t choice;
    scheduler::TokenEvent event;
    Clock::time_point time;
  };

  struct Options {
    size_t limit = SIZE_MAX;                 // events that may wait
    std::function<void()> on_overflow = {};  // on the executor, once, unless closed before
  };

  // executor: the connection's; all but push() are called on it.
  EventQueue(const boost::asio::any_io_executor& executor, std::shared_ptr<EventGate> gate,
             Options options);

  // From any thread; does not block.
  void push(size_t choice, scheduler::TokenEvent event);
  // Lets go of the executor, which the queue may outlive in the scheduler; drops what comes.
  void close();

  // What has come; waits for it up to `seconds` (0: without end). Empty: silence, or the client
  // hung up.
  boost::asio::awaitable<std::vector<Item>> take(double seconds);

  void hang_up();
  bool hung_up() const { return hung_up_; }

 private:
  std::vector<Item> take_now();
  void ring();
  void overflow();

  const std::shared_ptr<EventGate> gate_;
  const size_t limit_;
  std::function<void()> on_overflow_;
  std::optional<boost::asio::steady_timer> bell_;  // its wait is cancelled when something came
  bool hung_up_ = false;

  std::mutex mutex_;                       // guards what follows
  boost::asio::any_io_executor executor_;  // none: closed
  std::vector<Item> items_;
  bool overflowed_ = false;
  bool told_ = false;  // the consumer knows that there is something to take
};

}  // namespace tandem::server
