// Parallel loops do every item once, whatever the number of threads, and an idle pool costs
// nothing.
#include "platform/thread_pool.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>

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

TEST(ThreadPool, EveryItemIsDoneOnceInPiecesOfTheGrain) {
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
          EXPECT_LE(end - begin, grain);
          for (int64_t i = begin; i < end; ++i) ++done[static_cast<size_t>(i)];
        });
        for (const auto& d : done) EXPECT_EQ(d, 1);
      }
    }
  }
}

TEST(ThreadPool, WhatALoopWroteIsSeenAfterIt) {
  ThreadPool pool({.threads = 4, .pin = false});
  std::vector<int64_t> sums(4 * 8);
  for (int64_t round = 0; round < 20000; ++round) {
    std::fill(sums.begin(), sums.end(), 0);
    pool.parallel_for(16, 1, [&](int64_t begin, int64_t, int worker) {
      sums[static_cast<size_t>(worker) * 8] += begin + round;
    });
    int64_t total = 0;
    for (const int64_t s : sums) total += s;
    ASSERT_EQ(total, 120 + 16 * round);
  }
}

TEST(ThreadPool, SleepsWhenIdle) {
  ThreadPool pool({.threads = 4, .pin = false});
  pool.parallel_for(100, 1, [](int64_t, int64_t, int) {});
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
    pool.parallel_for(50, 1, [&](int64_t, int64_t, int) { ++count; });
    EXPECT_EQ(count, 50);
  }
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
