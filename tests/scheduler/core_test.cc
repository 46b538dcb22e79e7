// The policy, step by step.
#include "scheduler/core.h"

#include <gtest/gtest.h>

#include "tests/scheduler/harness.h"

namespace tandem::scheduler {
namespace {

TEST(Core, DecodesGoFirstAndPrefillTakesTheRest) {
  Harness h(small_engine(), {.max_batch_size = 4, .chunk_size = 8});
  h.add(1, 3, 20, 20);
  h.step();  // prompt of 3: its first token
  EXPECT_EQ(h.outcomes[1].tokens.size(), 1U);
  h.add(2, 20, 5, 5);
  h.step();  // 1 decode + 7 of the prompt
  h.step();  // 1 + 7
  EXPECT_EQ(h.outcomes[1].tokens.size(), 3U);
  EXPECT_TRUE(h.outcomes[2].tokens.empty());
  h.step();  // 1 + the last 6
  EXPECT_EQ(h.outcomes[1].tokens.size(), 4U);
  EXPECT_EQ(h.outcomes[2].tokens.size(), 1U);
}

TEST(Core, StepsAreLongWhileOneRequestIsAlive) {
  Harness h(small_engine(), {.max_batch_size = 2, .chunk_size = 4, .long_chunk_size = 12});
  const auto lengths = [&h] {
    std::vector<int32_t> tokens;
    for (const engine::SequenceSlice& slice : h.core.last_batch())
      tokens.push_back(slice.num_tokens);
    return tokens;
  };
  using Lengths = std::vector<int32_t>;
  h.add(1, 40, 2, 2);
  h.step();
  EXPECT_EQ(lengths(), Lengths({12}));
  h.add(2, 6, 8, 8);
  h.step();  // the usual bound, from the next step on
  EXPECT_EQ(lengths(), Lengths({4}));
  h.add(3, 30, 2, 2);
  h.cancel(1);
  h.step();
  EXPECT_EQ(lengths(), Lengths({4}));
  h.step();  // the last two of the second's prompt
  EXPECT_EQ(lengths(), Lengths({2, 2}));
  h.step();  // it generates
  EXPECT_EQ(lengths(), Lengths({1, 3}));
  h.cancel(2);
  h.step();
  EXPECT_EQ(lengths(), Lengths({12}));
  h.run();
  EXPECT_EQ(h.outcomes[3].tokens, h.alone(3));
}

TEST(Core, OneThatWaitsKeepsStepsShort) {
  Harness h(small_engine(), {.max_batch_size = 1, .chunk_size = 4, .long_chunk_size = 100});
  h.add(1, 40, 2, 2);
  h.step();
  EXPECT_EQ(h.core.last_batch()[0].num_tokens, 16);  // the engine's most
  h.add(2, 6, 2, 2);
  h.step();
  ASSERT_EQ(h.core.last_batch().size(), 1U);
  EXPECT_EQ(h.core.last_batch()[0].num_tokens, 4);
}

TEST(Core, BatchLimitAndOrderOfArrival) {
  Harness h(small_engine(), {.max_batch_size = 2, .chunk_size = 16});
  for (RequestId id = 1; id <= 5; ++id) h.add(id, 4, 3, 3);
  while (!h.core.idle()) {
    h.step();
    EXPECT_LE(h.core.stats().running, 2);
  }
  for (RequestId id = 2; id <= 5; ++id)
    EXPECT_GE(h.outcomes[id].first_step, h.outcomes[id - 1].first_step);
}

// Half of a step is for prompts that a step can hold, the other one for the oldest.
TEST(Core, AShortPromptDoesNotWaitForALongOne) {
  Harness h(small_engine(), {.max_batch_size = 4, .chunk_size = 8});
  h.add(1, 30, 2, 2);
  h.add(2, 12, 2, 2);  // too long for a step
  h.add(3, 6, 2, 2);
  h.step();
  const auto planned = [&] {
    std::vector<int32_t> tokens;
    for (const auto& slice : h.core.last_batch()) tokens.push_back(slice.num_tokens);
    return tokens;
  };
  EXPECT_EQ(planned(), (std::vector<int32_t>{4, 4}));
  h.step();
  EXPECT_EQ(planned(), (std::vector<int32_t>{6, 2}));
  EXPECT_EQ(h.outcomes[3].tokens.size(), 1U);
  h.step();  // a decode goes first, the second prompt still waits for the first
  EXPECT_EQ(planned(), (std::vector<int32_t>{7, 1}));
  while (!h.core.idle()) h.step();
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
  EXPECT_LT(h.outcomes[3].first_step, h.outcomes[1].first_step);
  EXPECT_LT(h.outcomes[1].first_step, h.outcomes[2].first_step);
}

TEST(Core, SinglePrefillStrategyRunsOnePromptAtATime) {
  Harness h(small_engine(),
            {.max_batch_size = 4, .chunk_size = 8, .strategy = Strategy::kFcfsSinglePrefill});
  for (RequestId id = 1; id <= 3; ++id) h.add(id, 12, 2, 2);
  h.step();
  EXPECT_EQ(h.core.stats().running, 1);
  while (!h.core.idle()) h.step();
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
}

TEST(Core, EndTokensLimitsAndMinimum) {
  Harness h(small_engine(), {.max_batch_size = 4, .chunk_size = 16});
  for (RequestId id = 1; id <= 40; ++id) h.add(id, 2, 30, id % 2 == 0 ? 25 : 0);
  while (!h.core.idle()) h.step();
  int stopped = 0;
  for (RequestId id = 1; id <= 40; ++id) {
    const Outcome& o = h.outcomes[id];
    EXPECT_EQ(o.tokens, h.alone(id));
    EXPECT_EQ(o.finish, o.tokens.back() == kEnd ? FinishReason::kStop : FinishReason::kLength);
    stopped += o.finish == FinishReason::kStop;
    if (id % 2 == 0) {
      EXPECT_GE(o.tokens.size(), 25U);
    }
  }
  EXPECT_GT(stopped, 0);
}

TEST(Core, PagesRunOutAndTheYoungestWaits) {
  // Room for 40 tokens; four requests of up to 34 each.
  Harness h(small_engine(10, 4), {.max_batch_size = 4, .chunk_size = 16});
  for (RequestId id = 1; id <= 4; ++id) h.add(id, 4, 30, 30);
  for (int i = 0; i < 10000 && !h.core.idle(); ++i) h.step();
  EXPECT_TRUE(h.core.idle());
  EXPECT_GT(h.core.stats().preemptions, 0U);
  for (RequestId id = 1; id <= 4; ++id) {
    EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
    EXPECT_EQ(h.outcomes[id].events_after_end, 0);
  }
}

TEST(Core, CancelInEveryPhase) {
  Harness h(small_engine(10, 4), {.max_batch_size = 2, .chunk_size = 4});
  h.add(1, 4, 50, 50);
  h.add(2, 20, 10, 10);
  h.add(3, 4, 10, 10);
  h.step();
  h.cancel(3);  // queued
  EXPECT_EQ(h.outcomes[3].finish, FinishReason::kCancelled);
  h.step();
  h.cancel(2);  // in prefill
  EXPECT_EQ(h.outcomes[2].finish, FinishReason::kCancelled);
  h.step();
  h.cancel(1);  // decoding
  EXPECT_EQ(h.outcomes[1].finish, FinishReason::kCancelled);
  EXPECT_EQ(h.core.stats().pages_free, 10);
  h.cancel(1);
  h.cancel(77);
  EXPECT_EQ(h.core.stats().cancelled, 3U);
}

TEST(Core, CancelWhilePreempted) {
  Harness h(small_engine(4, 4), {.max_batch_size = 2, .chunk_size = 8});
  h.add(1, 4, 12, 12);
  h.add(2, 4, 12, 12);
  while (h.core.stats().preemptions == 0) h.step();
  EXPECT_EQ(h.core.waiting(), std::vector<RequestId>{2});
  const size_t told = h.outcomes[2].tokens.size();
  EXPECT_GT(told, 0U);
  h.cancel(2);
  EXPECT_EQ(h.outcomes[2].finish, FinishReason::kCancelled);
  while (!h.core.idle()) h.step();
  EXPECT_EQ(h.outcomes[2].tokens.size(), told);
  EXPECT_EQ(h.outcomes[1].tokens, h.alone(1));
  EXPECT_EQ(h.core.stats().pages_free, 4);
}

// What a stream that generates, and the oldest prompt, can be made to wait for.
TEST(Core, NobodyIsKeptWaitingByPrompts) {
  constexpr int kChunk = 12, kLong = 120;
  engine::EngineInfo engine = small_engine(400, 4);
  engine.max_step_sequences = 8;
  Harness h(engine, {.max_batch_size = 8, .chunk_size = kChunk});
  for (RequestId id = 1; id <= 3; ++id) h.add(id, 2, 90, 90);
  h.step();
  h.add(4, kLong, 2, 2);
  int steps = 0;
  for (RequestId next = 5; h.outcomes[4].tokens.empty(); ++next, ++steps) {
    h.add(next, next % 3 == 0 ? 40 : 5, 1, 1);  // more in every step than it can hold
    h.add(next + 1000, 5, 1, 1);
    const size_t before = h.outcomes[1].tokens.size();
    h.step();
    int tokens = 0;
    for (const auto& slice : h.core.last_batch()) tokens += slice.num_tokens;
    EXPECT_LE(tokens, kChunk);
    for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(h.outcomes[id].tokens.size(), before + 1);
  }
  EXPECT_LE(steps, 2 * kLong / (kChunk - 3) + 1) << "the oldest has half of what decodes leave";
  EXPECT_GT(steps, kLong / (kChunk - 3) + 1) << "short ones passed it";
}

TEST(Core, AKeyAtItsLimitStandsAsideForOthers) {
  Harness h(small_engine(), {.max_batch_size = 3, .chunk_size = 16, .max_running_per_key = 1});
  const auto add = [&](RequestId id, uint64_t key) {
    Request r;
    r.prompt = {1, 2, static_cast<TokenId>(id)};
    r.max_tokens = r.min_tokens = 5;
    r.key = key;
    h.add(id, std::move(r));
  };
  add(1, 7);
  add(2, 7);
  add(3, 8);
  add(4, 0);
  add(5, 7);
  h.step();
  EXPECT_EQ(h.core.running(), (std::vector<RequestId>{1, 3, 4}));
  while (h.outcomes[1].finish == FinishReason::kNone) h.step();
  h.step();
  EXPECT_EQ(h.core.running(), (std::vector<RequestId>{2})) << "before 5, which is younger";
  h.run();
  for (RequestId id = 1; id <= 5; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
}

TEST(Core, TimeoutsEndRequestsThatRunOrWait) {
  Harness h(small_engine(), {.max_batch_size = 1, .chunk_size = 16});
  for (RequestId id = 1; id <= 3; ++id) {
    Request r;
    r.prompt = {1, 2, 3};
    r.max_tokens = r.min_tokens = 100;
    r.timeout_seconds = id == 3 ? 0.0 : 10 * FakeEngine::kSecondsPerToken;
    h.add(id, std::move(r));
  }
  h.run();
  for (RequestId id = 1; id <= 2; ++id) {
    EXPECT_EQ(h.outcomes[id].finish, FinishReason::kError);
    EXPECT_EQ(h.outcomes[id].error_code, "timeout");
  }
  EXPECT_EQ(h.outcomes[1].tokens.size(), 8U);
  EXPECT_TRUE(h.outcomes[2].tokens.empty());
  EXPECT_EQ(h.outcomes[3].tokens, h.alone(3));
  EXPECT_EQ(h.core.stats().timed_out, 2U);
}

TEST(Core, AFailingEngineEndsItsRequestsOnly) {
  for (const bool in_begin : {false, true}) {
    Harness h(small_engine(), {.max_batch_size = 2, .chunk_size = 8});
    h.add(1, 4, 10, 10);
    h.add(2, 4, 10, 10);
    h.add(3, 4, 10, 10);
    h.engine.fail_at = 3;
    h.engine.fails_in_begin = in_begin;
    while (!h.core.idle()) h.step();
    EXPECT_EQ(h.outcomes[1].finish, FinishReason::kError);
    EXPECT_EQ(h.outcomes[2].finish, FinishReason::kError);
    EXPECT_EQ(h.outcomes[3].tokens, h.alone(3));
  }
}

TEST(Core, AStepThatRunsIsPreparedFor) {
  Harness h(small_engine(), {.max_batch_size = 2, .chunk_size = 8});
  h.add(1, 4, 10, 10);
  h.begin_step();
  h.add(2, 4, 10, 10);
  h.add(3, 4, 10, 10);
  h.prepare();
  EXPECT_EQ(h.core.running(), (std::vector<RequestId>{1, 2}));
  EXPECT_EQ(h.core.last_batch().size(), 1U) << "the step that runs is as it was";
  h.finish_step();
  EXPECT_EQ(h.outcomes[1].tokens.size(), 1U);
  h.run();
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
}

// 1 takes part in the step, 2 waits: only that one can end at once.
TEST(Core, CancelsWhileAStepRuns) {
  for (const bool fails : {false, true}) {
    Harness h(small_engine(10, 4), {.max_batch_size = 1, .chunk_size = 8});
    h.add(1, 8, 10, 10);
    h.add(2, 4, 10, 10);
    if (fails) h.engine.fail_at = 1;
    h.begin_step();
    h.cancel(2);
    EXPECT_EQ(h.outcomes[2].finish, FinishReason::kCancelled);
    h.cancel(1);
    h.cancel(1);
    EXPECT_EQ(h.outcomes[1].finish, FinishReason::kNone);
    h.prepare();
    EXPECT_EQ(h.core.stats().pages_free, 8) << "its pages are being written";
    h.finish_step();
    EXPECT_EQ(h.outcomes[1].finish, FinishReason::kCancelled)
        << "its error or token comes too late";
    EXPECT_TRUE(h.outcomes[1].tokens.empty());
    EXPECT_EQ(h.core.stats().pages_free, 10);
    EXPECT_EQ(h.core.stats().pages_cached, fails ? 0 : 2) << "what it computed is of use to others";
    EXPECT_EQ(h.core.stats().cancelled, 2U);
    EXPECT_TRUE(h.core.idle());
  }
}

TEST(Core, TellsWhereTheTimeWent) {
  Harness h(small_engine(), {.max_batch_size = 1, .chunk_size = 8});
  h.add(1, 16, 3, 3);  // two steps of its prompt, two more tokens
  h.add(2, 4, 1, 1);
  h.engine.now += 0.5;
  while (!h.core.idle()) h.step();
  const Times& first = h.outcomes[1].times;
  EXPECT_DOUBLE_EQ(first.queued, 0.5);
  EXPECT_NEAR(first.prefill, 16 * FakeEngine::kSecondsPerToken, 1e-9);
  EXPECT_NEAR(first.decode, 2 * FakeEngine::kSecondsPerToken, 1e-9);
  const Times& second = h.outcomes[2].times;
  EXPECT_NEAR(second.queued, 0.5 + 18 * FakeEngine::kSecondsPerToken, 1e-9);
  EXPECT_NEAR(second.prefill, 4 * FakeEngine::kSecondsPerToken, 1e-9);
  EXPECT_DOUBLE_EQ(second.decode, 0.0);
}

TEST(Core, TimeoutsWhileAStepRuns) {
  Harness h(small_engine(), {.max_batch_size = 1, .chunk_size = 16});
  for (RequestId id = 1; id <= 2; ++id) {
    Request r;
    r.prompt = {1, 2, 3};
    r.max_tokens = r.min_tokens = 100;
    r.timeout_seconds = 1.0;
    h.add(id, std::move(r));
  }
  h.begin_step();
  h.engine.now += 2.0;
  h.prepare();
  EXPECT_EQ(h.outcomes[1].finish, FinishReason::kNone);
  EXPECT_EQ(h.outcomes[2].error_code, "timeout");
  h.finish_step();
  EXPECT_EQ(h.outcomes[1].error_code, "timeout");
  EXPECT_TRUE(h.outcomes[1].tokens.empty());
  EXPECT_EQ(h.core.stats().timed_out, 2U);
}

}  // namespace
}  // namespace tandem::scheduler
