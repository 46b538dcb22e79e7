// Parallel loops do every item once, whatever the number of threads, and an idle pool costs
// nothing.
#include "platform/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include "platform/guided.h"

namespace tandem::platform {
namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(GuidedPiece, PiecesFollowEachOtherAndShrink) {
  for (const int64_t threads : {1, 2, 3, 16, 100}) {
    for (int64_t items = 0; items < 3000; items += items < 70 ? 1 : 97) {
      int64_t next = 0, longest = items;
      for (int64_t number = 0; next < items; ++number) {
        const Piece piece = guided_piece(number, items, threads);
        ASSERT_EQ(piece.begin, next);
        ASSERT_GT(piece.end, piece.begin);
        ASSERT_LE(piece.end - piece.begin, longest);
        // No more than a fair share, so that the end stays even.
        ASSERT_LE(piece.end - piece.begin, std::max<int64_t>(1, items / threads));
        longest = piece.end - piece.begin;
        next = piece.end;
      }
      ASSERT_EQ(next, items);
      EXPECT_EQ(longest, std::min<int64_t>(items, 1));
      for (const int64_t number : {items, items + 1, items + 1000}) {
        const Piece none = guided_piece(number, items, threads);
        EXPECT_EQ(none.begin, none.end);
      }
    }
  }
}

TEST(ThreadPool, EveryItemIsDoneOnceInPiecesOfGrains) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool({.threads = threads, .pin = false});
    EXPECT_EQ(pool.size(), threads);
    for (const int64_t count : {0, 1, 2, 63, 64, 65, 1000}) {
      for (const int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> done(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LT(begin, end);
          EXPECT_TRUE(end % grain == 0 || end == count);
          for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
        });
        for (const auto& d : done) EXPECT_EQ(d, 1);
      }
    }
  }
}

TEST(ThreadPool, EveryItemOfEveryPartIsDoneOnce) {
  const std::vector<std::vector<int64_t>> shapes = {
      {5}, {40, 40}, {0, 100}, {100, 0}, {1, 99}, {7, 0, 30}, {9, 9, 9, 9, 0, 1}};
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool({.threads = threads, .pin = false});
    for (const std::vector<int64_t>& counts : shapes) {
      for (const int64_t grain : {1, 4}) {
        std::vector<std::vector<std::atomic<int>>> done;
        for (const int64_t count : counts) done.emplace_back(static_cast<size_t>(count));
        const auto parts = static_cast<int>(counts.size());
        pool.parallel_for_stages(counts, parts, grain,
                                 [&](int, int part, int64_t begin, int64_t end, int) {
                                   EXPECT_EQ(begin % grain, 0);
                                   for (int64_t i = begin; i < end; ++i) {
                                     ++done[static_cast<size_t>(part)][static_cast<size_t>(i)];
                                   }
                                 });
        for (const auto& part : done) {
          for (const auto& d : part) EXPECT_EQ(d, 1);
        }
      }
    }
  }
}

TEST(ThreadPool, APieceMayWaitForTheStageBefore) {
  // Items of the second stage wait for all of the first, in parts that may have no thread.
  const std::vector<std::vector<int64_t>> shapes = {
      {40, 60}, {40, 0, 60, 1}, {0, 40, 3, 5}, {7, 7, 7, 9, 0, 1}};
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool({.threads = threads, .pin = false});
    for (const std::vector<int64_t>& counts : shapes) {
      const auto parts = static_cast<int>(counts.size()) / 2;
      int64_t first_stage = 0, all = 0;
      for (size_t i = 0; i < counts.size(); ++i) {
        all += counts[i];
        if (i < counts.size() / 2) first_stage += counts[i];
      }
      for (int round = 0; round < 200; ++round) {
        std::atomic<int64_t> first = 0, second = 0;
        pool.parallel_for_stages(counts, parts, 1,
                                 [&](int stage, int, int64_t begin, int64_t end, int) {
                                   if (stage == 1) {
                                     while (first.load() < first_stage) std::this_thread::yield();
                                   }
                                   (stage == 0 ? first : second) += end - begin;
                                 });
        ASSERT_EQ(first, first_stage);
        ASSERT_EQ(second, all - first_stage);
      }
    }
  }
}

TEST(ThreadPool, WhatALoopWroteIsSeenAfterIt) {
  ThreadPool pool({.threads = 4, .pin = false});
  std::vector<int64_t> sums(4 * 8);
  for (int64_t round = 0; round < 20000; ++round) {
    std::fill(sums.begin(), sums.end(), 0);
    pool.parallel_for(16, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) sums[static_cast<size_t>(worker) * 8] += i + round;
    });
    int64_t total = 0;
    for (const int64_t s : sums) total += s;
    ASSERT_EQ(total, 120 + 16 * round);
  }
}

TEST(ThreadPool, LoopsInsideABurstAndBetweenBursts) {
  ThreadPool pool({.threads = 2});
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  for (int step = 0; step < 30; ++step) {
    std::atomic<int> count{0};
    {
      const ThreadPool::Burst burst(pool);
      for (int i = 0; i < 50; ++i) {
        pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) {
          count += static_cast<int>(end - begin);
        });
      }
    }
    pool.parallel_for(
        100, 1, [&](int64_t begin, int64_t end, int) { count += static_cast<int>(end - begin); });
    ASSERT_EQ(count, 5100);
    if (step % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after)) << "the caller has its former affinity again";
}

TEST(ThreadPool, SleepsWhenIdle) {
  ThreadPool pool({.threads = 2, .pin = false});
  {
    const ThreadPool::Burst burst(pool);
    pool.parallel_for(100, 1, [](int64_t, int64_t, int) {});
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // past the spinning
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(cpu_seconds() - before, 0.03);
}

TEST(ThreadPool, AWokenPoolWorksAgain) {
  ThreadPool pool({.threads = 3, .pin = false});
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int> count{0};
    pool.parallel_for(
        50, 1, [&](int64_t begin, int64_t end, int) { count += static_cast<int>(end - begin); });
    EXPECT_EQ(count, 50);
  }
}

TEST(ThreadPool, ThreadsOfANodeBeginWithItsPart) {
  ASSERT_EQ(setenv("HWLOC_SYNTHETIC", "node:2 core:2 pu:1", 1), 0);
  ThreadPool pool({.threads = 4});
  ThreadPool one({.threads = 4, .numa = false});
  unsetenv("HWLOC_SYNTHETIC");
  EXPECT_EQ(one.nodes(), 1);
  ASSERT_EQ(pool.nodes(), 2);
  for (int worker = 0; worker < 4; ++worker) EXPECT_EQ(pool.node_of(worker), worker / 2);

  // A thread turns to the other node's part when nothing of its own is left.
  const std::vector<int64_t> counts = {200, 200};
  std::array<std::atomic<int64_t>, 2> taken = {};
  pool.parallel_for_stages(
      counts, 2, 1, [&](int, int part, int64_t begin, int64_t end, int worker) {
        if (part != pool.node_of(worker)) {
          const int64_t threads = 2, still_with_others = threads * counts[0] / (2 * threads);
          EXPECT_GE(taken[static_cast<size_t>(1 - part)], counts[0] - still_with_others);
        }
        taken[static_cast<size_t>(part)] += end - begin;
      });
}

TEST(ThreadPoolDeathTest, NestedLoopsAreABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ThreadPool pool({.threads = 1, .pin = false});
        pool.parallel_for(1, 1, [&](int64_t, int64_t, int) {
          pool.parallel_for(1, 1, [](int64_t, int64_t, int) {});
        });
      },
      "parallel loop inside");
}

}  // namespace
}  // namespace tandem::platform
