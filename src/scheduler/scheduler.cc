// The scheduler's thread: commands in, steps, events out.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "scheduler/core.h"
#include "scheduler/key_shares.h"
#include "scheduler/mailbox.h"
#include "scheduler/tiered_store.h"

namespace tandem::scheduler {
namespace {

using Clock = std::chrono::steady_clock;

// The engine's own fault, not that of a request, when so many steps fail one after the other.
constexpr int kFatalFailures = 3;

std::unique_ptr<PageStore> make_store(engine::Engine& engine, const Options& options,
                                      std::unique_ptr<PageDisk> disk, std::function<void()> wake) {
  const bool host = options.host_cache_bytes > 0;
  if (!options.prefix_cache || (!host && disk == nullptr)) return nullptr;
  return std::make_unique<TieredStore>(engine, options.host_cache_bytes, std::move(disk),
                                       std::move(wake));
}

// As many may be open as may run and wait; 0: no limit.
int open_of_a_key(const Options& options) {
  if (options.max_queue_per_key <= 0) return 0;
  const int may_run =
      options.max_running_per_key > 0 ? options.max_running_per_key : options.max_batch_size;
  return may_run + options.max_queue_per_key;
}

class ThreadedScheduler : public Scheduler {
 public:
  ThreadedScheduler(engine::Engine& engine, const Options& options, std::unique_ptr<PageDisk> disk)
      : store_(make_store(engine, options, std::move(disk), [this] { mailbox_.post(Wake{}); })),
        core_(engine, options, store_.get()),
        options_(options),
        info_(engine.info()),
        shares_(std::make_shared<KeyShares>(open_of_a_key(options))) {
    stats_ = core_.stats();
    thread_ = std::thread([this] { run(); });
  }

  ~ThreadedScheduler() override {
    accepting_ = false;
    mailbox_.post(Stop{});
    thread_.join();
  }

  Result<Place> reserve(uint64_t key) override {
    if (auto failure = refuse_all()) return *failure;
    return shares_->take(key);
  }

  Result<RequestId> submit(Request request) override {
    const auto tokens = static_cast<int64_t>(request.prompt.size());
    if (tokens + 1 > core_.capacity()) return too_long(tokens);
    if (auto failure = refuse_all()) return *failure;
    if (request.place == nullptr) {
      Result<Place> place = shares_->take(request.key);
      if (!place) return place.failure();
      request.place = std::move(*place);
    }
    const RequestId id = ++last_id_;
    ++unsettled_;
    mailbox_.post(Submit{id, with_settling(std::move(request)), core_.now()});
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

  std::vector<StepRecord> recent_steps() const override { return step_log_.recent(); }

 private:
  void run() {
    try {
      serve();
    } catch (const std::exception& error) {
      refuse_from_now_on(error.what());
    }
  }

  void serve() {
    for (bool stopping = false; !stopping;) {
      const bool nothing_to_do = core_.idle() || core_.blocked();
      if (nothing_to_do) report();
      // Nothing else would wake it at a deadline while copies are waited for.
      stopping |= take_commands(nothing_to_do ? core_.seconds_to_deadline() : 0.0);
      const Clock::time_point begin = Clock::now();
      core_.begin_step();
      // A command taken now would be one that a blocked core waits for.
      if (core_.step_begun()) {
        stopping |= work_meanwhile();
        core_.finish_step();
      }
      record_step(begin);
      if (core_.failures_in_a_row() > 0) end_if_fatal();
    }
    core_.cancel_all();
    report();
  }

  void end_if_fatal() {
    if (core_.engine_broken()) throw std::runtime_error(core_.last_failure());
    if (core_.failures_in_a_row() < kFatalFailures) return;
    throw std::runtime_error(fmt::format("{} steps failed in a row, the last one because: {}",
                                         core_.failures_in_a_row(), core_.last_failure()));
  }

  // While a step runs: tells what the last one gave, and prepares the next one. Waiting for the
  // engine would spin as well.
  bool work_meanwhile() {
    report();
    bool stopping = take_commands(0.0);
    core_.prepare();
    while (core_.engine_runs()) {
      if (mailbox_.empty()) {
        std::this_thread::yield();
        continue;
      }
      stopping |= take_commands(0.0);
      core_.prepare();
      report();
    }
    if (core_.has_events()) report();
    return stopping;
  }

  void report() {
    publish_stats();
    core_.deliver_events();
  }

  // Sleeps until there is one, no longer than so many seconds. Returns whether the thread shall
  // end.
  bool take_commands(double seconds) {
    commands_.clear();
    mailbox_.take(commands_, seconds);
    bool stopping = false;
    for (Command& command : commands_) stopping |= apply(command);
    return stopping;
  }

  // Nobody shall wait for an answer that cannot come while the process ends.
  void refuse_from_now_on(const std::string& what) {
    accepting_ = false;
    const std::string message = "the engine has failed: " + what;
    core_.fail_all(message);
    report();
    if (options_.on_fatal) options_.on_fatal(what);
    for (bool stopping = false; !stopping;) {
      stopping = take_commands(Sequence::kNoDeadline);
      core_.fail_all(message);
      report();
    }
  }

  void record_step(Clock::time_point begin) {
    const auto batch = core_.last_batch();
    if (batch.empty()) return;
    const auto us = [](Clock::duration d) {
      return std::chrono::duration_cast<std::chrono::microseconds>(d).count();
    };
    const Stats now = core_.stats();
    StepRecord record{.number = now.steps,
                      .begin_us = us(begin - start_),
                      .duration_us = us(Clock::now() - begin),
                      .sequences = static_cast<int32_t>(batch.size()),
                      .running = now.running,
                      .waiting = now.waiting,
                      .pages_free = now.pages_free};
    for (const engine::SequenceSlice& slice : batch) {
      const bool decodes = slice.num_tokens == 1 && slice.position >= slice.prompt_tokens;
      (decodes ? record.decode_tokens : record.prefill_tokens) += slice.num_tokens;
    }
    step_prefill_tokens_ += static_cast<uint64_t>(record.prefill_tokens);
    step_decode_tokens_ += static_cast<uint64_t>(record.decode_tokens);
    step_seconds_ += static_cast<double>(record.duration_us) * 1e-6;
    step_sizes_.add(record.prefill_tokens + record.decode_tokens);
    step_log_.add(record);
  }

  // Returns whether the thread shall end.
  bool apply(Command& command) {
    if (auto* submit = std::get_if<Submit>(&command)) {
      core_.add(submit->id, std::move(submit->request), submit->at);
    } else if (auto* cancel = std::get_if<Cancel>(&command)) {
      core_.cancel(cancel->id);
    }
    return std::holds_alternative<Stop>(command);
  }

  // What no request passes now.
  std::optional<Failure> refuse_all() const {
    if (!accepting_) {
      return Failure{.message = "the server is stopping", .param = {}, .code = "unavailable"};
    }
    if (unsettled_.load() - running_.load() >= options_.max_queue) {
      return Failure{.message = fmt::format("{} requests are waiting already; try again later",
                                            options_.max_queue),
                     .param = {},
                     .code = "queue_full"};
    }
    return std::nullopt;
  }

  Failure too_long(int64_t tokens) const {
    return {.message = fmt::format(
                "This model's maximum context length is {} tokens, and one must be left for the "
                "answer. However, your messages resulted in {} tokens. Please reduce the length of "
                "the messages. (The model has {} positions, the cache {} pages x {} tokens.)",
                core_.capacity(), tokens, info_.context_length, info_.num_pages, info_.page_size),
            .param = "messages",
            .code = "context_length_exceeded"};
  }

  void settle() {
    const std::lock_guard lock(settled_mutex_);
    --unsettled_;
    settled_.notify_all();
  }

  // Counts a request as settled once its last event has been delivered. Its place is free before:
  // who learns of the end may ask for it.
  Request with_settling(Request request) {
    request.on_event = [this, place = std::move(request.place),
                        deliver = std::move(request.on_event)](TokenEvent event) mutable {
      const bool last = event.finish != FinishReason::kNone;
      if (last) place.reset();
      deliver(std::move(event));
      if (last) settle();
    };
    return request;
  }

  void publish_stats() {
    const std::lock_guard lock(stats_mutex_);
    stats_ = core_.stats();
    stats_.step_prefill_tokens = step_prefill_tokens_;
    stats_.step_decode_tokens = step_decode_tokens_;
    stats_.step_seconds = step_seconds_;
    stats_.step_sizes = step_sizes_;
    running_ = stats_.running;
  }

  const Clock::time_point start_ = Clock::now();
  StepLog step_log_;
  uint64_t step_prefill_tokens_ = 0, step_decode_tokens_ = 0;  // of the thread only
  double step_seconds_ = 0.0;
  StepSizes step_sizes_;
  Mailbox mailbox_;
  std::vector<Command> commands_;           // of the thread only
  const std::unique_ptr<PageStore> store_;  // posts to the mailbox; null: no lower tiers
  Core core_;                               // of the thread only, but for its capacity and clock
  const Options options_;
  const engine::EngineInfo info_;
  const std::shared_ptr<KeyShares> shares_;
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

std::unique_ptr<Scheduler> Scheduler::start(engine::Engine& engine, const Options& options,
                                            std::unique_ptr<PageDisk> disk) {
  return std::make_unique<ThreadedScheduler>(engine, options, std::move(disk));
}

}  // namespace tandem::scheduler
