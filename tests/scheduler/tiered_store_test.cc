// Host memory and disk with their thread: what goes in comes out, in bounded memory, beside steps.
#include "scheduler/tiered_store.h"

#include <atomic>
#include <chrono>
#include <future>
#include <set>

#include <gtest/gtest.h>

#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_engine.h"

namespace tandem::scheduler {
namespace {

constexpr engine::EngineInfo kInfo{.vocab_size = 1000,
                                   .context_length = 200,
                                   .page_size = 4,
                                   .num_pages = 16,
                                   .max_step_tokens = 16,
                                   .max_step_sequences = 4};

// A disk in memory, which several stores may have one after the other.
struct DiskContents {
  std::mutex mutex;
  std::map<std::pair<uint64_t, uint64_t>, std::vector<std::byte>> pages;
  std::atomic<bool> failing{false};
  std::atomic<int> reads{0};
};

class FakeDisk : public PageDisk {
 public:
  explicit FakeDisk(DiskContents& contents) : contents_(contents) {}

  bool has(const PageName& name) const override {
    const std::lock_guard lock(contents_.mutex);
    return contents_.pages.contains({name.high, name.low});
  }
  void touch(std::span<const PageName>) override {}
  bool read(const PageName& name, std::span<std::byte> out) override {
    const std::lock_guard lock(contents_.mutex);
    const auto found = contents_.pages.find({name.high, name.low});
    if (found == contents_.pages.end() || contents_.failing) return false;
    std::copy(found->second.begin(), found->second.end(), out.begin());
    ++contents_.reads;
    return true;
  }
  bool write(const PageName& name, std::span<const std::byte> in) override {
    if (contents_.failing) return false;
    const std::lock_guard lock(contents_.mutex);
    contents_.pages[{name.high, name.low}].assign(in.begin(), in.end());
    return true;
  }
  Tier pages() const override {
    const std::lock_guard lock(contents_.mutex);
    return {.pages_total = 1000, .pages_used = static_cast<int64_t>(contents_.pages.size())};
  }

 private:
  DiskContents& contents_;
};

class TieredStoreTest : public ::testing::Test {
 protected:
  void open(int64_t host_pages, bool with_disk) {
    store_ = std::make_unique<TieredStore>(engine_, host_pages * engine_.info().page_bytes,
                                           with_disk ? std::make_unique<FakeDisk>(disk_) : nullptr,
                                           [this] { ++wakes_; });
  }
  static PageName name(uint64_t i) { return {i, i}; }
  std::vector<std::byte> contents(uint64_t i) const {
    return std::vector<std::byte>(static_cast<size_t>(engine_.info().page_bytes), std::byte(i));
  }
  PageStore::Done wait_for_one() {
    std::vector<PageStore::Done> done;
    while (done.empty()) {
      store_->take_done(done);
      std::this_thread::yield();
    }
    EXPECT_EQ(done.size(), 1U);
    return done[0];
  }
  bool save(uint64_t i) {
    engine_.write_page(3, contents(i));
    store_->save(name(i), 3);
    return wait_for_one().ok;
  }
  // Whether the page came back; its bytes must be right then.
  bool load(uint64_t i) {
    store_->load(name(i), 5);
    const PageStore::Done done = wait_for_one();
    EXPECT_EQ(done.page, 5);
    if (!done.ok) return false;
    std::vector<std::byte> bytes(contents(i).size());
    engine_.read_page(5, bytes);
    EXPECT_EQ(bytes, contents(i));
    return true;
  }

  FakeEngine engine_{kInfo};
  DiskContents disk_;
  std::atomic<int> wakes_{0};
  std::unique_ptr<TieredStore> store_;
};

TEST_F(TieredStoreTest, HostMemoryIsBoundedAndKeepsTheLastUsed) {
  open(3, false);
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(save(i));
  EXPECT_TRUE(load(1));
  EXPECT_TRUE(save(4));
  EXPECT_FALSE(store_->has(name(2)));
  const PageName third = name(3);
  store_->touch({&third, 1});
  EXPECT_TRUE(save(5));
  EXPECT_FALSE(load(1));
  EXPECT_TRUE(load(3) && load(4) && load(5));
  const TierStats stats = store_->stats();
  EXPECT_EQ(stats.host.pages_used, 3);
  EXPECT_EQ(stats.host.pages_total, 3);
  EXPECT_EQ(stats.pages_saved, 5U);
  EXPECT_EQ(stats.pages_loaded, 4U);
  EXPECT_EQ(stats.failures, 1U);
  EXPECT_GT(wakes_, 0);
  EXPECT_GT(store_->load_speed(), 0.0);
}

TEST_F(TieredStoreTest, TheDiskKeepsWhatHostMemoryGivesUp) {
  open(1, true);
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(save(i));
  EXPECT_TRUE(load(1));
  EXPECT_EQ(disk_.reads, 1);
  EXPECT_EQ(store_->stats().disk.pages_used, 3);
  EXPECT_TRUE(load(1));
  EXPECT_EQ(disk_.reads, 1) << "now it is in host memory";
  store_.reset();
  open(0, true);
  for (uint64_t i = 1; i <= 3; ++i) EXPECT_TRUE(store_->has(name(i)) && load(i));
}

TEST_F(TieredStoreTest, AFailingDiskIsAMiss) {
  open(0, true);
  EXPECT_TRUE(save(1));
  store_.reset();  // waits for the write
  open(0, true);
  disk_.failing = true;
  EXPECT_FALSE(load(1));
  EXPECT_TRUE(save(2)) << "the engine's page is free all the same";
  disk_.failing = false;
  EXPECT_TRUE(load(1));
  store_.reset();
  EXPECT_FALSE(FakeDisk(disk_).has(name(2)));
}

// The whole scheduler over tiers: many requests with shared beginnings in few pages.
TEST_F(TieredStoreTest, ServesASchedulerUnderPressure) {
  for (const int64_t host_pages : {0, 5, 100}) {
    FakeEngine engine(kInfo);
    const auto scheduler =
        Scheduler::start(engine,
                         {.max_batch_size = 4,
                          .chunk_size = 8,
                          .host_cache_bytes = host_pages * engine.info().page_bytes},
                         std::make_unique<FakeDisk>(disk_));
    for (int round = 0; round < 20; ++round) {
      struct Answer {
        std::vector<TokenId> prompt, tokens;
        std::promise<void> done;
      };
      std::vector<std::shared_ptr<Answer>> answers;
      for (int i = 0; i < 6; ++i) {
        auto answer = std::make_shared<Answer>();
        for (int t = 0; t < 20 + i; ++t) answer->prompt.push_back(t < 10 ? t : t * round + i);
        Request request;
        request.prompt = answer->prompt;
        request.max_tokens = 20;
        request.on_event = [answer](const TokenEvent& event) {
          if (event.token >= 0) answer->tokens.push_back(event.token);
          if (event.finish != FinishReason::kNone) answer->done.set_value();
        };
        ASSERT_TRUE(scheduler->submit(std::move(request)).ok());
        answers.push_back(answer);
      }
      for (const auto& answer : answers) {
        answer->done.get_future().wait();
        ASSERT_EQ(answer->tokens.size(), 20U);
        std::vector<TokenId> history = answer->prompt;
        for (const TokenId token : answer->tokens) {
          ASSERT_EQ(token, engine.next_token(history));
          history.push_back(token);
        }
      }
    }
    EXPECT_GT(scheduler->stats().preemptions, 0U);
    EXPECT_GT(scheduler->stats().tiers.pages_loaded, 0U);
  }
}

}  // namespace
}  // namespace tandem::scheduler
