// The policy, step by step, and random traces that hold it to its promises.
#include "scheduler/core.h"

#include <map>
#include <random>

#include <gtest/gtest.h>

#include "tests/scheduler/fake_engine.h"

namespace tandem::scheduler {
namespace {

constexpr engine::TokenId kEnd = 0;

struct Outcome {
  std::vector<TokenId> tokens;
  FinishReason finish = FinishReason::kNone;
  int events_after_end = 0;
  int first_step = -1;
};

class Harness {
 public:
  Harness(engine::EngineInfo info, Options options) : engine(info), core(engine, options) {}

  void add(RequestId id, int prompt, int max_tokens, int min_tokens = 0) {
    Request request;
    for (int i = 0; i < prompt; ++i)
      request.prompt.push_back(
          static_cast<TokenId>((id * 31 + static_cast<uint64_t>(i) * 7) % 97 + 1));
    request.max_tokens = max_tokens;
    request.min_tokens = min_tokens;
    request.end_tokens = {kEnd};
    request.on_event = [this, id](const TokenEvent& event) {
      Outcome& o = outcomes[id];
      o.events_after_end += o.finish != FinishReason::kNone;
      if (event.token >= 0) o.tokens.push_back(event.token);
      if (event.token >= 0 && o.first_step < 0) o.first_step = engine.steps;
      o.finish = event.finish;
    };
    prompts[id] = request.prompt;
    limits[id] = {max_tokens, min_tokens};
    core.add(id, std::move(request));
  }

  void step() {
    core.step();
    core.deliver_events();
    const Stats stats = core.stats();
    EXPECT_LE(stats.pages_free, stats.pages_total);
    if (core.idle()) {
      EXPECT_EQ(stats.pages_free, stats.pages_total) << "pages leaked";
    }
  }

  void cancel(RequestId id) {
    core.cancel(id);
    core.deliver_events();
  }

  // The tokens that the request would get alone.
  std::vector<TokenId> alone(RequestId id) const {
    std::vector<TokenId> history = prompts.at(id), output;
    const auto [max_tokens, min_tokens] = limits.at(id);
    while (static_cast<int>(output.size()) < max_tokens &&
           static_cast<int>(history.size()) < core.capacity()) {
      const TokenId end[] = {kEnd};
      const bool ban = static_cast<int>(output.size()) < min_tokens;
      output.push_back(engine.next_token(
          history, ban ? std::span<const TokenId>(end) : std::span<const TokenId>()));
      history.push_back(output.back());
      if (output.back() == kEnd) break;
    }
    return output;
  }

  FakeEngine engine;
  Core core;
  std::map<RequestId, Outcome> outcomes;
  std::map<RequestId, std::vector<TokenId>> prompts;
  std::map<RequestId, std::pair<int, int>> limits;
};

engine::EngineInfo small_engine(int pages = 64, int page_size = 4, int context = 200) {
  return {.vocab_size = 50,
          .context_length = context,
          .page_size = page_size,
          .num_pages = pages,
          .max_step_tokens = 16,
          .max_step_sequences = 4};
}

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

TEST(Core, AFailingEngineEndsItsRequestsOnly) {
  Harness h(small_engine(), {.max_batch_size = 2, .chunk_size = 8});
  h.add(1, 4, 10, 10);
  h.add(2, 4, 10, 10);
  h.add(3, 4, 10, 10);
  h.engine.fail_at = 3;
  while (!h.core.idle()) h.step();
  EXPECT_EQ(h.outcomes[1].finish, FinishReason::kError);
  EXPECT_EQ(h.outcomes[2].finish, FinishReason::kError);
  EXPECT_EQ(h.outcomes[3].tokens, h.alone(3));
}

// Arrivals, cancels, engine failures and too few pages, at random.
TEST(Core, RandomTracesKeepAllPromises) {
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 generator(seed);
    const auto random = [&](int lowest, int highest) {
      return lowest + static_cast<int>(generator() % static_cast<uint32_t>(highest - lowest + 1));
    };
    const int page_size = random(1, 8);
    const int pages = random(3, 30);
    Harness h({.vocab_size = random(3, 50),
               .context_length = random(20, 100),
               .page_size = page_size,
               .num_pages = pages,
               .max_step_tokens = random(4, 20),
               .max_step_sequences = 4},
              {.max_batch_size = random(1, 4),
               .chunk_size = random(1, 20),
               .strategy = random(0, 3) == 0 ? Strategy::kFcfsSinglePrefill : Strategy::kFcfs});
    if (random(0, 9) == 0) h.engine.fail_at = random(1, 20);
    const int requests = random(1, 12);
    std::vector<bool> cancelled(static_cast<size_t>(requests) + 1);
    RequestId next = 1;
    int steps = 0;
    while (next <= static_cast<RequestId>(requests) || !h.core.idle()) {
      if (next <= static_cast<RequestId>(requests) && (random(0, 2) == 0 || h.core.idle())) {
        h.add(next++, random(2, std::min(30, h.core.capacity() - 1)), random(1, 30), random(0, 5));
      }
      if (next > 1 && random(0, 15) == 0) {
        const auto victim = static_cast<RequestId>(random(1, static_cast<int>(next) - 1));
        h.cancel(victim);
        cancelled[victim] = true;
      }
      h.step();
      ASSERT_LT(++steps, 20000) << "somebody starves";
    }
    ASSERT_EQ(h.core.stats().pages_free, pages);
    for (RequestId id = 1; id < next; ++id) {
      const Outcome& o = h.outcomes[id];
      ASSERT_NE(o.finish, FinishReason::kNone) << id;
      ASSERT_EQ(o.events_after_end, 0);
      const std::vector<TokenId> expected = h.alone(id);
      if (o.finish == FinishReason::kStop || o.finish == FinishReason::kLength) {
        ASSERT_EQ(o.tokens, expected) << id;
      } else {
        ASSERT_TRUE(cancelled[id] || h.engine.fail_at > 0);
        ASSERT_LE(o.tokens.size(), expected.size());
        ASSERT_TRUE(std::equal(o.tokens.begin(), o.tokens.end(), expected.begin()));
      }
    }
    // Prompts have two tokens or more: one of a single token is a decode at once, ahead of an older
    // prompt's chunks.
    if (h.engine.fail_at < 0 &&
        std::find(cancelled.begin(), cancelled.end(), true) == cancelled.end()) {
      for (RequestId id = 2; id < next; ++id) {
        ASSERT_GE(h.outcomes[id].first_step, h.outcomes[id - 1].first_step) << "overtaken";
      }
    }
  }
}

}  // namespace
}  // namespace tandem::scheduler
