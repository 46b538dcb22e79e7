// Random traces that hold the scheduler to its promises: arrivals, cancels, timeouts and engine
// failures, before steps and while they run, too few pages, shared beginnings, and lower tiers that
// are slow, small and faulty.
#include <algorithm>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "tests/scheduler/harness.h"

namespace tandem::scheduler {
namespace {

constexpr uint32_t kTraces = 12000;

class Trace {
 public:
  explicit Trace(uint32_t seed)
      : generator_(seed), key_limit_(chance(4) ? random(1, 2) : 0), harness_(make_harness(seed)) {}

  void run() {
    const int requests = random(1, 12);
    int steps = 0;
    while (next_ <= static_cast<RequestId>(requests) || !harness_->core.idle()) {
      clients(requests, harness_->core.idle() ? 1 : 4);
      keeping_order([&] { harness_->begin_step(); });
      do {
        if (chance(4)) harness_->engine.now += random(1, 20) * FakeEngine::kSecondsPerToken;
        clients(requests, 5);
        keeping_order([&] { harness_->prepare(); });
      } while (chance(4));
      if (chance(4)) clients(requests, 5);
      harness_->finish_step();
      ASSERT_LT(++steps, 20000) << "somebody starves";
    }
    harness_->settle();
    for (RequestId id = 1; id < next_; ++id) check_outcome(id);
  }

  const Harness& harness() const { return *harness_; }

 private:
  int random(int lowest, int highest) {
    return lowest + static_cast<int>(generator_() % static_cast<uint32_t>(highest - lowest + 1));
  }
  bool chance(int one_of) { return random(1, one_of) == 1; }

  // What clients do, at some time: a new request one time of `one_of`, and a cancel.
  void clients(int requests, int one_of) {
    if (next_ <= static_cast<RequestId>(requests) && chance(one_of)) {
      harness_->add(next_++, random_request());
    }
    if (next_ > 1 && chance(32)) {
      const auto victim = static_cast<RequestId>(random(1, static_cast<int>(next_) - 1));
      harness_->cancel(victim);
      cancelled_.insert(victim);
    }
  }

  std::unique_ptr<Harness> make_harness(uint32_t seed) {
    const engine::EngineInfo info{.vocab_size = random(3, 50),
                                  .context_length = random(20, 100),
                                  .page_size = random(1, 8),
                                  .num_pages = random(3, 30),
                                  .max_step_tokens = random(4, 20),
                                  .max_step_sequences = 4};
    const Options options{.max_batch_size = random(1, 4),
                          .chunk_size = random(1, 20),
                          .strategy = chance(4) ? Strategy::kFcfsSinglePrefill : Strategy::kFcfs,
                          .max_running_per_key = key_limit_,
                          .prefix_cache = !chance(8)};
    std::optional<FakeStore::Nature> nature;
    if (!chance(3)) {
      nature = {.longest_copy = chance(3) ? 0.0 : random(1, 100) * FakeEngine::kSecondsPerToken,
                .failures = chance(2) ? 0 : random(1, 50),
                .capacity = static_cast<size_t>(random(1, 40))};
    }
    auto harness = std::make_unique<Harness>(info, options, nature, seed);
    if (harness->store != nullptr) harness->store->speed = chance(2) ? 1e3 * random(1, 100) : 0.0;
    if (chance(10)) harness->engine.fail_at = random(1, 20);
    harness->engine.fails_in_begin = chance(2);
    return harness;
  }

  // Prompts go on differently after a beginning that several share.
  Request random_request() {
    Request request;
    const int longest = std::min(40, harness_->core.capacity() - 1);
    const int prompt = random(1, std::max(1, longest));
    const int family = random(1, 3), shared = random(0, prompt);
    for (int i = 0; i < prompt; ++i) {
      request.prompt.push_back(i < shared ? family * 1000 + i : random(1, 5));
    }
    request.max_tokens = random(1, 30);
    request.min_tokens = random(0, 5);
    if (chance(12)) request.timeout_seconds = random(1, 200) * FakeEngine::kSecondsPerToken;
    request.key = static_cast<uint64_t>(random(0, 2));
    request.cache_scope = static_cast<uint64_t>(random(0, 1));
    return request;
  }

  // Who has left the queue in time was admitted, whether it still runs or not.
  template <typename Part>
  void keeping_order(const Part& part_of_step) {
    const std::vector<RequestId> queue = harness_->core.waiting();
    std::vector<RequestId> present = harness_->core.running();
    part_of_step();
    const std::vector<RequestId> still = harness_->core.waiting();
    RequestId youngest = 0;
    for (const RequestId id : queue) {
      const bool expired = harness_->outcomes[id].error_code == "timeout";
      if (std::count(still.begin(), still.end(), id) > 0 || expired) continue;
      youngest = std::max(youngest, id);
      present.push_back(id);
    }
    for (const RequestId id : queue) {
      if (id > youngest || std::count(still.begin(), still.end(), id) == 0) continue;
      const uint64_t key = harness_->requests.at(id).key;
      const auto of_key = std::count_if(present.begin(), present.end(), [&](RequestId other) {
        return harness_->requests.at(other).key == key;
      });
      ASSERT_TRUE(key_limit_ > 0 && key != 0 && of_key >= key_limit_)
          << youngest << " overtook " << id;
    }
  }

  void check_outcome(RequestId id) {
    const Outcome& o = harness_->outcomes[id];
    const Request& request = harness_->requests.at(id);
    ASSERT_NE(o.finish, FinishReason::kNone) << id;
    ASSERT_EQ(o.events_after_end, 0);
    ASSERT_LT(o.cached_tokens, static_cast<int32_t>(request.prompt.size()));
    const std::vector<TokenId> expected = harness_->alone(id);
    if (o.finish == FinishReason::kStop || o.finish == FinishReason::kLength) {
      ASSERT_EQ(o.tokens, expected) << id;
      return;
    }
    ASSERT_TRUE(cancelled_.contains(id) || harness_->engine.fail_at > 0 ||
                (o.error_code == "timeout" && request.timeout_seconds > 0.0));
    ASSERT_LE(o.tokens.size(), expected.size());
    ASSERT_TRUE(std::equal(o.tokens.begin(), o.tokens.end(), expected.begin()));
  }

  std::mt19937 generator_;
  const int key_limit_;
  std::unique_ptr<Harness> harness_;
  RequestId next_ = 1;
  std::set<RequestId> cancelled_;
};

TEST(Traces, KeepAllPromises) {
  uint64_t hits = 0, preemptions = 0, timeouts = 0;
  int loads = 0, saves = 0, copies = 0;
  for (uint32_t seed = 0; seed < kTraces && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Trace trace(seed);
    trace.run();
    const Stats stats = trace.harness().core.stats();
    hits += stats.cached_tokens;
    preemptions += stats.preemptions;
    timeouts += stats.timed_out;
    copies += trace.harness().engine.copies;
    if (const FakeStore* store = trace.harness().store.get()) {
      loads += store->loads;
      saves += store->saves;
    }
  }
  // The traces are worth something only where all of this happens often.
  for (const int64_t count : {static_cast<int64_t>(hits), static_cast<int64_t>(preemptions),
                              int64_t{loads}, int64_t{saves}, int64_t{copies}}) {
    EXPECT_GT(count, 1000);
  }
  EXPECT_GT(timeouts, 100U);
}

}  // namespace
}  // namespace tandem::scheduler
