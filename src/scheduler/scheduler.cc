// The scheduler's thread: commands in, steps, events out.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "scheduler/core.h"
#include "scheduler/mailbox.h"

namespace tandem::scheduler {
namespace {

class ThreadedScheduler : public Scheduler {
 public:
  ThreadedScheduler(engine::Engine& engine, const Options& options)
      : core_(engine, options), max_queue_(options.max_queue), capacity_(core_.capacity()) {
    stats_ = core_.stats();
    thread_ = std::thread([this] { run(); });
  }

  ~ThreadedScheduler() override {
    accepting_ = false;
    mailbox_.post(Stop{});
    thread_.join();
  }

  Result<RequestId> submit(Request request) override {
    if (!accepting_) {
      return Failure{.message = "the server is stopping", .param = {}, .code = "unavailable"};
    }
    const auto tokens = static_cast<int64_t>(request.prompt.size());
    if (tokens + 1 > capacity_) {
      return Failure{.message = fmt::format(
                         "This model's maximum context length is {} tokens, and one must be left "
                         "for the answer. However, your messages resulted in {} tokens. Please "
                         "reduce the length of the messages.",
                         capacity_, tokens),
                     .param = "messages",
                     .code = "context_length_exceeded"};
    }
    if (unsettled_.load() - running_.load() >= max_queue_) {
      return Failure{
          .message = fmt::format("{} requests are waiting already; try again later", max_queue_),
          .param = {},
          .code = "queue_full"};
    }
    const RequestId id = ++last_id_;
    ++unsettled_;
    mailbox_.post(Submit{id, with_settling(std::move(request))});
    return id;
  }

  void cancel(RequestId id) override { mailbox_.post(Cancel{id}); }

  void drain(double seconds) override {
    accepting_ = false;
    std::unique_lock lock(settled_mutex_);
    settled_.wait_for(lock, std::chrono::duration<double>(seconds),
                      [&] { return unsettled_.load() == 0; });
  }

  Stats stats() const override {
    const std::lock_guard lock(stats_mutex_);
    return stats_;
  }

 private:
  void run() {
    std::vector<Command> commands;
    for (bool stopping = false; !stopping;) {
      commands.clear();
      mailbox_.take(commands, core_.idle());
      for (Command& command : commands) stopping |= apply(command);
      core_.step();
      publish_stats();
      core_.deliver_events();
    }
    core_.cancel_all();
    publish_stats();
    core_.deliver_events();
  }

  // Returns whether the thread shall end.
  bool apply(Command& command) {
    if (auto* submit = std::get_if<Submit>(&command)) {
      core_.add(submit->id, std::move(submit->request));
    } else if (auto* cancel = std::get_if<Cancel>(&command)) {
      core_.cancel(cancel->id);
    } else {
      return true;
    }
    return false;
  }

  // Counts a request as settled once its last event has been delivered.
  Request with_settling(Request request) {
    request.on_event = [this, deliver = std::move(request.on_event)](TokenEvent event) {
      const bool last = event.finish != FinishReason::kNone;
      deliver(std::move(event));
      if (!last) return;
      const std::lock_guard lock(settled_mutex_);
      --unsettled_;
      settled_.notify_all();
    };
    return request;
  }

  void publish_stats() {
    const std::lock_guard lock(stats_mutex_);
    stats_ = core_.stats();
    running_ = stats_.running;
  }

  Core core_;  // of the thread only
  const int max_queue_;
  const int32_t capacity_;
  Mailbox mailbox_;
  std::atomic<bool> accepting_{true};
  std::atomic<RequestId> last_id_{0};
  std::atomic<int> running_{0};
  std::atomic<int> unsettled_{0};  // submitted, last event not delivered yet
  std::mutex settled_mutex_;
  std::condition_variable settled_;
  mutable std::mutex stats_mutex_;
  Stats stats_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Scheduler> Scheduler::start(engine::Engine& engine, const Options& options) {
  return std::make_unique<ThreadedScheduler>(engine, options);
}

}  // namespace tandem::scheduler
