// The prefix cache through the core: what is shared, what is copied, what is kept and given up,
// and what comes back from the lower tiers.
#include <numeric>

#include <gtest/gtest.h>

#include "tests/scheduler/harness.h"

namespace tandem::scheduler {
namespace {

const Options kOptions{.max_batch_size = 4, .chunk_size = 16};

Request request(std::vector<TokenId> prompt, int max_tokens, uint64_t scope = 0) {
  Request r;
  r.prompt = std::move(prompt);
  r.max_tokens = max_tokens;
  r.min_tokens = max_tokens;
  r.cache_scope = scope;
  return r;
}

std::vector<TokenId> count_from(TokenId first, int count) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

// Runs a request to its end; its prompt tokens that were cached.
int32_t cached(Harness& h, RequestId id, Request r) {
  h.add(id, std::move(r));
  h.run();
  EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
  return h.outcomes[id].cached_tokens;
}

TEST(Cache, FullPagesAreSharedAndTheLastTokenIsComputed) {
  Harness h(small_engine(), kOptions);
  EXPECT_EQ(cached(h, 1, request(count_from(1, 14), 1)), 0);
  // Three full pages of four.
  EXPECT_EQ(cached(h, 2, request(count_from(1, 14), 1)), 12);
  EXPECT_EQ(cached(h, 3, request(count_from(1, 13), 1)), 12);
  EXPECT_EQ(h.engine.copies, 0);
  // All of twelve are there, but the last one must be computed: in a copy of its page.
  EXPECT_EQ(cached(h, 4, request(count_from(1, 12), 1)), 11);
  EXPECT_EQ(h.engine.copies, 1);
  EXPECT_EQ(h.core.stats().cached_tokens, 35U);
}

TEST(Cache, APageThatBeginsAlikeIsCopied) {
  Harness h(small_engine(), kOptions);
  cached(h, 1, request(count_from(1, 16), 1));
  std::vector<TokenId> other = count_from(1, 11);  // two pages and three tokens
  other.insert(other.end(), {40, 41, 42});
  EXPECT_EQ(cached(h, 2, request(other, 5)), 11);
  EXPECT_EQ(h.engine.copies, 1);
  EXPECT_EQ(cached(h, 3, request(count_from(1, 16), 1)), 15) << "the source of the copy was lost";
}

TEST(Cache, GeneratedTokensFillPagesToo) {
  Harness h(small_engine(), kOptions);
  cached(h, 1, request(count_from(1, 6), 10));
  std::vector<TokenId> next = count_from(1, 6);
  const std::vector<TokenId>& answer = h.outcomes[1].tokens;
  next.insert(next.end(), answer.begin(), answer.end());
  next.push_back(45);
  // Of 16 tokens of the first turn, 15 were computed: three full pages.
  EXPECT_EQ(cached(h, 2, request(next, 3)), 12);
}

TEST(Cache, ScopesShareNothing) {
  Harness h(small_engine(), kOptions);
  cached(h, 1, request(count_from(1, 14), 1, 7));
  EXPECT_EQ(cached(h, 2, request(count_from(1, 14), 1, 8)), 0);
  EXPECT_EQ(cached(h, 3, request(count_from(1, 14), 1, 7)), 12);
}

TEST(Cache, CanBeSwitchedOff) {
  Options options = kOptions;
  options.prefix_cache = false;
  Harness h(small_engine(), options);
  cached(h, 1, request(count_from(1, 14), 1));
  EXPECT_EQ(cached(h, 2, request(count_from(1, 14), 1)), 0);
  EXPECT_EQ(h.core.stats().pages_cached, 0);
}

TEST(Cache, RequestsThatRunTogetherShareWhatTheFirstComputes) {
  Harness h(small_engine(64, 4), {.max_batch_size = 4, .chunk_size = 8});
  for (RequestId id = 1; id <= 4; ++id) h.add(id, request(count_from(1, 41), 4));
  h.run();
  for (RequestId id = 1; id <= 4; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
  // One computes the prompt. Each of the others is given its rest of a step at most, then finds
  // the pages.
  EXPECT_LT(h.core.stats().prompt_tokens, 41U + 3U * 8U);
}

TEST(Cache, TheLongestUnusedIsGivenUpAndItsEndFirst) {
  Harness h(small_engine(8, 4), kOptions);
  cached(h, 1, request(count_from(1, 13), 1));   // three full pages
  cached(h, 2, request(count_from(60, 13), 1));  // three more
  EXPECT_EQ(h.core.stats().pages_cached, 6);
  cached(h, 3, request(count_from(100, 13), 1));  // four pages, two of them were free
  EXPECT_EQ(cached(h, 4, request(count_from(60, 13), 1)), 12);
  EXPECT_EQ(cached(h, 5, request(count_from(1, 13), 1)), 4);
}

TEST(Cache, LowerTiersGiveBackWhatTheEngineGaveUp) {
  Harness h(small_engine(8, 4), kOptions, FakeStore::Nature{.longest_copy = 0.01});
  cached(h, 1, request(count_from(1, 29), 1));
  h.settle();
  EXPECT_EQ(h.store->saves, 7);
  cached(h, 2, request(count_from(100, 29), 1));
  h.settle();
  EXPECT_EQ(cached(h, 3, request(count_from(1, 29), 1)), 28);
  EXPECT_EQ(h.store->loads, 7);
  h.settle();
  EXPECT_EQ(h.store->saves, 14) << "what was loaded is saved already";
}

TEST(Cache, ARequestThatFetchesDoesNotStallOthers) {
  Harness h(small_engine(24, 4), kOptions, FakeStore::Nature{.longest_copy = 1.0});
  cached(h, 1, request(count_from(1, 29), 1));
  h.settle();
  cached(h, 2, request(count_from(100, 90), 1));  // takes all pages
  h.settle();
  h.add(3, request(count_from(200, 4), 30));
  h.step();
  h.add(4, request(count_from(1, 29), 1));  // loads take up to a second, a step milliseconds
  h.add(5, request(count_from(300, 4), 2));
  for (int i = 0; i < 10; ++i) h.step();
  EXPECT_EQ(h.outcomes[3].tokens.size(), 11U);
  EXPECT_TRUE(h.outcomes[4].tokens.empty());
  EXPECT_EQ(h.outcomes[5].tokens.size(), 2U);
  h.settle();
  EXPECT_EQ(h.outcomes[4].cached_tokens, 28);
  EXPECT_EQ(h.outcomes[4].tokens, h.alone(4));
}

TEST(Cache, APreemptedRequestComesBackFromTheLowerTiers) {
  // Two requests of 40 tokens in room for 60.
  Harness h(small_engine(15, 4), {.max_batch_size = 2, .chunk_size = 16},
            FakeStore::Nature{.longest_copy = 0.001});
  h.add(1, request(count_from(1, 20), 20));
  h.add(2, request(count_from(100, 20), 20));
  h.settle();
  EXPECT_GT(h.core.stats().preemptions, 0U);
  EXPECT_GT(h.store->loads, 0);
  for (RequestId id = 1; id <= 2; ++id) EXPECT_EQ(h.outcomes[id].tokens, h.alone(id));
}

TEST(Cache, SlowTiersAreNotFetchedFrom) {
  Harness h(small_engine(8, 4), kOptions, FakeStore::Nature{});
  cached(h, 1, request(count_from(1, 29), 1));
  h.settle();
  cached(h, 2, request(count_from(100, 29), 1));
  h.settle();
  h.store->speed = 100.0;  // a page of 32 bytes takes 0.3 s; its tokens 4 ms
  EXPECT_EQ(cached(h, 3, request(count_from(1, 29), 1)), 0);
  EXPECT_EQ(h.store->loads, 0);
}

}  // namespace
}  // namespace tandem::scheduler
