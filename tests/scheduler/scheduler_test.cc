// The scheduler with its thread: many clients, cancellation, draining, idleness.
#include "scheduler/scheduler.h"

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "tests/scheduler/fake_engine.h"

namespace tandem::scheduler {
namespace {

engine::EngineInfo info() {
  return {.vocab_size = 1000,
          .context_length = 400,
          .page_size = 4,
          .num_pages = 100,
          .max_step_tokens = 16,
          .max_step_sequences = 4};
}

Request request(int prompt, int max_tokens, std::function<void(TokenEvent)> on_event) {
  Request r;
  for (int i = 0; i < prompt; ++i) r.prompt.push_back(i + 1);
  r.max_tokens = max_tokens;
  r.on_event = std::move(on_event);
  return r;
}

TEST(Scheduler, ManyThreadsSubmitAndCancel) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 4, .chunk_size = 8});
  std::atomic<int> ended{0}, cancelled{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 6; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < 50; ++i) {
        auto done = std::make_shared<std::promise<void>>();
        const Result<RequestId> id =
            scheduler->submit(request(1 + i % 20, 1 + i % 9, [&, done](const TokenEvent& event) {
              if (event.finish == FinishReason::kNone) return;
              cancelled += event.finish == FinishReason::kCancelled;
              ++ended;
              done->set_value();
            }));
        ASSERT_TRUE(id.ok());
        if ((i + c) % 3 == 0) scheduler->cancel(*id);
        done->get_future().wait();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(ended, 300);
  EXPECT_EQ(scheduler->stats().pages_free, 100);
  EXPECT_EQ(scheduler->stats().cancelled, static_cast<uint64_t>(cancelled));
}

TEST(Scheduler, RefusesWhatCanNeverFitAndAFullQueue) {
  FakeEngine engine(info());
  const auto scheduler =
      Scheduler::start(engine, {.max_batch_size = 1, .chunk_size = 8, .max_queue = 2});
  const Result<RequestId> too_long = scheduler->submit(request(400, 1, [](const TokenEvent&) {}));
  ASSERT_FALSE(too_long.ok());
  EXPECT_EQ(too_long.failure().code, "context_length_exceeded");
  EXPECT_NE(too_long.failure().message.find("400"), std::string::npos);
  int refused = 0;
  for (int i = 0; i < 50; ++i) {
    const Result<RequestId> id = scheduler->submit(request(10, 350, [](const TokenEvent&) {}));
    refused += !id.ok() && id.failure().code == "queue_full";
  }
  EXPECT_GT(refused, 0);
}

TEST(Scheduler, DestructionCancelsWhatRuns) {
  FakeEngine engine(info());
  std::atomic<int> ended{0};
  {
    const auto scheduler = Scheduler::start(engine, {.max_batch_size = 2, .chunk_size = 8});
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(
          scheduler
              ->submit(request(
                  5, 390, [&](const TokenEvent& e) { ended += e.finish != FinishReason::kNone; }))
              .ok());
    }
  }
  EXPECT_EQ(ended, 5);
}

TEST(Scheduler, DrainingFinishesWhatRunsAndRefusesTheRest) {
  FakeEngine engine(info());
  std::atomic<int> finished{0};
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 2, .chunk_size = 8});
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(
        scheduler
            ->submit(request(
                5, 20, [&](const TokenEvent& e) { finished += e.finish == FinishReason::kLength; }))
            .ok());
  }
  scheduler->drain(30.0);
  EXPECT_EQ(finished, 5);
  const Result<RequestId> late = scheduler->submit(request(5, 20, [](const TokenEvent&) {}));
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.failure().code, "unavailable");
}

TEST(Scheduler, AKeyHasItsShareOfTheQueue) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(
      engine,
      {.max_batch_size = 4, .chunk_size = 8, .max_running_per_key = 1, .max_queue_per_key = 2});
  const auto submit = [&](uint64_t key) {
    Request r = request(10, 350, [](const TokenEvent&) {});
    r.key = key;
    const Result<RequestId> id = scheduler->submit(std::move(r));
    return id.ok() ? "ok" : id.failure().code;
  };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(submit(1), "ok");
  EXPECT_EQ(submit(1), "key_queue_full");
  EXPECT_EQ(submit(2), "ok");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(submit(0), "ok");
}

TEST(Scheduler, APlaceIsTakenBeforeTheRequest) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(
      engine,
      {.max_batch_size = 4, .chunk_size = 8, .max_running_per_key = 1, .max_queue_per_key = 1});
  Result<Place> first = scheduler->reserve(1), second = scheduler->reserve(1);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(scheduler->reserve(1).failure().code, "key_queue_full");
  EXPECT_TRUE(scheduler->reserve(2).ok());
  EXPECT_TRUE(scheduler->reserve(0).ok());
  *second = nullptr;  // what came of it was no request
  EXPECT_TRUE(scheduler->reserve(1).ok());

  // A request with a place takes no other one, and gives it back when it is refused or has ended.
  Request r = request(399, 1, [](const TokenEvent&) {});
  r.prompt.resize(500);
  r.key = 1;
  r.place = std::move(*first);
  EXPECT_EQ(scheduler->submit(std::move(r)).failure().code, "context_length_exceeded");
  for (int i = 0; i < 50; ++i) {
    Result<Place> other = scheduler->reserve(1), place = scheduler->reserve(1);
    ASSERT_TRUE(other.ok() && place.ok()) << i;
    std::promise<void> end;
    r = request(5, 2, [&](const TokenEvent& event) {
      if (event.finish != FinishReason::kNone) end.set_value();
    });
    r.key = 1;
    r.place = std::move(*place);
    ASSERT_TRUE(scheduler->submit(std::move(r)).ok()) << i;
    end.get_future().wait();
  }
}

TEST(Scheduler, ATimeoutEndsARequest) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 1, .chunk_size = 8});
  std::promise<TokenEvent> end;
  Request r = request(5, 390, [&](const TokenEvent& event) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (event.finish != FinishReason::kNone) end.set_value(event);
  });
  r.timeout_seconds = 0.02;
  ASSERT_TRUE(scheduler->submit(std::move(r)).ok());
  const TokenEvent event = end.get_future().get();
  EXPECT_EQ(event.finish, FinishReason::kError);
  EXPECT_EQ(event.error_code, "timeout");
  EXPECT_EQ(scheduler->stats().timed_out, 1U);
}

// Has every page, but does not give it before it is let go.
class StuckDisk : public PageDisk {
 public:
  explicit StuckDisk(std::shared_future<void> let_go) : let_go_(std::move(let_go)) {}
  bool has(const PageName&) const override { return true; }
  void touch(std::span<const PageName>) override {}
  bool read(const PageName&, std::span<std::byte>) override {
    let_go_.wait_for(std::chrono::seconds(20));
    return false;
  }
  bool write(const PageName&, std::span<const std::byte>) override { return false; }
  Tier pages() const override { return {.pages_total = 1, .pages_used = 1}; }

 private:
  const std::shared_future<void> let_go_;
};

// Nothing else is there to wake the scheduler.
TEST(Scheduler, ATimeoutEndsARequestThatWaitsForADisk) {
  FakeEngine engine(info());
  std::promise<void> let_go;
  std::promise<TokenEvent> end;
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 1, .chunk_size = 8},
                                          std::make_unique<StuckDisk>(let_go.get_future().share()));
  Request r = request(9, 5, [&](const TokenEvent& event) { end.set_value(event); });
  r.timeout_seconds = 0.05;
  ASSERT_TRUE(scheduler->submit(std::move(r)).ok());
  auto ended = end.get_future();
  const bool in_time = ended.wait_for(std::chrono::seconds(10)) == std::future_status::ready;
  let_go.set_value();
  ASSERT_TRUE(in_time);
  EXPECT_EQ(ended.get().error_code, "timeout");
  scheduler->drain(30.0);
  EXPECT_EQ(scheduler->stats().steps, 0U) << "it waited for the disk";
}

template <typename Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

// Holds the engine's steps up; lets go at its end, also where an assertion has failed.
class HeldUp {
 public:
  explicit HeldUp(FakeEngine& engine) : engine_(engine) { engine_.busy = true; }
  ~HeldUp() { let_go(); }
  void let_go() { engine_.busy = false; }

 private:
  FakeEngine& engine_;
};

// While an engine works elsewhere, requests and cancels are taken in.
TEST(Scheduler, WorksWhileAStepRuns) {
  FakeEngine engine(info());
  std::atomic<int> tokens{0}, cancelled{0};
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 1, .chunk_size = 8});
  HeldUp steps(engine);
  const auto count = [&](const TokenEvent& e) {
    tokens += e.token >= 0;
    cancelled += e.finish == FinishReason::kCancelled;
  };
  const RequestId first = scheduler->submit(request(5, 20, count)).value();
  ASSERT_TRUE(comes_true([&] { return scheduler->stats().running == 1; }));
  const RequestId second = scheduler->submit(request(5, 20, count)).value();
  ASSERT_TRUE(comes_true([&] { return scheduler->stats().waiting == 1; }));
  scheduler->cancel(second);
  ASSERT_TRUE(comes_true([&] { return cancelled == 1; }));
  scheduler->cancel(first);
  const auto third = scheduler->submit(request(5, 20, count));
  ASSERT_TRUE(comes_true([&] { return scheduler->stats().waiting == 1; }));
  EXPECT_EQ(cancelled, 1) << "the first one is in the step";
  EXPECT_EQ(scheduler->stats().steps, 0U);
  steps.let_go();
  scheduler->drain(30.0);
  EXPECT_EQ(cancelled, 2);
  EXPECT_EQ(tokens, 20) << "of the third one";
}

TEST(Scheduler, IdlenessRunsNoSteps) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(engine, {});
  const uint64_t before = scheduler->stats().steps;
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(scheduler->stats().steps, before);
}

// Clients are told, and whoever runs the process too.
TEST(Scheduler, AnEngineThatKeepsFailingIsReportedOnce) {
  FakeEngine engine(info());
  engine.always_fails = true;
  std::promise<std::string> fatal;
  const auto scheduler =
      Scheduler::start(engine, {.max_batch_size = 1, .on_fatal = [&](const std::string& what) {
                                  fatal.set_value(what);  // a second call would throw
                                }});
  std::atomic<int> failed{0};
  const auto count = [&](const TokenEvent& e) { failed += e.finish == FinishReason::kError; };
  int submitted = 0;
  while (scheduler->submit(request(5, 20, count)).ok()) ++submitted;
  EXPECT_NE(fatal.get_future().get().find("in a row"), std::string::npos);
  scheduler->drain(30.0);
  EXPECT_EQ(failed, submitted);
  EXPECT_GE(submitted, 3);
  EXPECT_EQ(scheduler->stats().pages_free, 100);
}

// What waits need not find out step by step.
TEST(Scheduler, ABrokenEngineIsReportedAtItsFirstFailure) {
  FakeEngine engine(info());
  engine.fail_at = 7;
  engine.breaks = true;
  std::promise<std::string> fatal;
  const auto scheduler = Scheduler::start(
      engine,
      {.max_batch_size = 1, .on_fatal = [&](const std::string& what) { fatal.set_value(what); }});
  std::atomic<int> failed{0};
  const auto count = [&](const TokenEvent& e) { failed += e.finish == FinishReason::kError; };
  int submitted = 0;
  while (scheduler->submit(request(5, 20, count)).ok()) ++submitted;
  EXPECT_EQ(fatal.get_future().get(), "the engine failed");
  scheduler->drain(30.0);
  EXPECT_EQ(failed, submitted);
  EXPECT_EQ(engine.steps, 7);
  EXPECT_EQ(scheduler->submit(request(5, 20, [](const TokenEvent&) {})).failure().code,
            "unavailable");
}

TEST(Scheduler, OneFailedStepIsNotFatal) {
  FakeEngine engine(info());
  engine.fail_at = 2;
  bool fatal = false;
  std::atomic<int> failed{0}, finished{0};
  {
    const auto scheduler = Scheduler::start(
        engine, {.max_batch_size = 1, .on_fatal = [&](const std::string&) { fatal = true; }});
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(scheduler
                      ->submit(request(5, 4,
                                       [&](const TokenEvent& e) {
                                         failed += e.finish == FinishReason::kError;
                                         finished += e.finish == FinishReason::kLength;
                                       }))
                      .ok());
    }
    scheduler->drain(30.0);
  }
  EXPECT_EQ(failed, 1);
  EXPECT_EQ(finished, 3);
  EXPECT_FALSE(fatal);
}

TEST(Scheduler, RemembersItsSteps) {
  FakeEngine engine(info());
  const auto scheduler = Scheduler::start(engine, {.max_batch_size = 2, .chunk_size = 4});
  std::promise<void> done;
  ASSERT_TRUE(scheduler
                  ->submit(request(10, 5,
                                   [&](const TokenEvent& e) {
                                     if (e.finish != FinishReason::kNone) done.set_value();
                                   }))
                  .ok());
  done.get_future().wait();
  const std::vector<StepRecord> steps = scheduler->recent_steps();
  const Stats stats = scheduler->stats();
  ASSERT_EQ(steps.size(), stats.steps);
  ASSERT_EQ(steps.size(), 7U);  // 4 + 4 + 2 of the prompt with the first token, then 4 more
  EXPECT_EQ(steps[2].prefill_tokens, 2);
  EXPECT_EQ(steps[3].prefill_tokens, 0);
  EXPECT_EQ(steps[3].decode_tokens, 1);
  EXPECT_EQ(stats.step_prefill_tokens, 10U);
  EXPECT_EQ(stats.step_decode_tokens, 4U);
  for (size_t i = 1; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].number, steps[i - 1].number + 1);
    EXPECT_GE(steps[i].begin_us, steps[i - 1].begin_us + steps[i - 1].duration_us);
  }
}

}  // namespace
}  // namespace tandem::scheduler
