// A locked list, and a timer as the bell.
#include "server/event_queue.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tandem::server {

namespace asio = boost::asio;

EventQueue::EventQueue(const asio::any_io_executor& executor, std::shared_ptr<EventGate> gate,
                       Options options)
    : gate_(std::move(gate)),
      limit_(options.limit),
      on_overflow_(std::move(options.on_overflow)),
      bell_(executor),
      executor_(executor) {}

void EventQueue::push(size_t choice, scheduler::TokenEvent event) {
  gate_->pass([&] {
    const std::lock_guard lock(mutex_);
    if (!executor_ || overflowed_) return;
    if (items_.size() >= limit_) {
      overflowed_ = true;
      asio::post(executor_, [self = shared_from_this()] { self->overflow(); });
      return;
    }
    items_.push_back({choice, std::move(event), Clock::now()});
    if (std::exchange(told_, true)) return;
    asio::post(executor_, [self = shared_from_this()] { self->ring(); });
  });
}

void EventQueue::close() {
  bell_.reset();
  on_overflow_ = nullptr;
  const std::lock_guard lock(mutex_);
  executor_ = {};
  items_.clear();
}

void EventQueue::ring() {
  if (bell_) bell_->cancel();
}

void EventQueue::overflow() {
  if (on_overflow_) std::exchange(on_overflow_, nullptr)();
  hang_up();
}

std::vector<EventQueue::Item> EventQueue::take_now() {
  const std::lock_guard lock(mutex_);
  told_ = false;
  return std::exchange(items_, {});
}

asio::awaitable<std::vector<EventQueue::Item>> EventQueue::take(double seconds) {
  std::vector<Item> items = take_now();
  if (!items.empty() || hung_up_) co_return items;
  // Between take_now() and the wait nothing else runs on the executor, so a bell rung for what
  // comes now finds the wait in place.
  if (seconds > 0.0) {
    bell_->expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  } else {
    bell_->expires_at(Clock::time_point::max());
  }
  co_await bell_->async_wait(asio::as_tuple(asio::use_awaitable));
  co_return take_now();
}

void EventQueue::hang_up() {
  hung_up_ = true;
  ring();
}

}  // namespace tandem::server
