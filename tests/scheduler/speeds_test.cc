// Copy or compute again.
#include "scheduler/speeds.h"

#include <gtest/gtest.h>

#include "scheduler/page_pool.h"

namespace tandem::scheduler {
namespace {

TEST(Speeds, FollowTheirSamples) {
  Speed speed;
  EXPECT_EQ(speed.per_second(), 0.0);
  speed.add(100.0, 2.0);
  EXPECT_DOUBLE_EQ(speed.per_second(), 50.0);
  for (int i = 0; i < 100; ++i) speed.add(10.0, 1.0);
  EXPECT_NEAR(speed.per_second(), 10.0, 0.1);
}

TEST(Speeds, CopyOrComputeAgain) {
  // 18 MB for 256 tokens of DeepSeek-V3: 7 ms from host memory at 2.5 GB/s, 1 s to compute at
  // 250 tokens a second.
  EXPECT_TRUE(copy_is_cheaper(18e6, 2.5e9, 256, 250));
  // 1.5 MB for 64 tokens of a small model on a disk of 20 MB/s, or 1000 tokens a second.
  EXPECT_FALSE(copy_is_cheaper(1.5e6, 20e6, 64, 1000));
  // Nothing was computed yet; nothing was copied yet.
  EXPECT_TRUE(copy_is_cheaper(1e9, 1e6, 1, 0.0));
  EXPECT_TRUE(copy_is_cheaper(kAssumedCopySpeed * 0.9, 0.0, 100, 100));
  EXPECT_FALSE(copy_is_cheaper(kAssumedCopySpeed * 1.1, 0.0, 100, 100));
}

TEST(PageNames, DependOnModelScopeAndAllTokensBefore) {
  const Hash128 model{1, 2}, other_model{1, 3};
  const std::vector<TokenId> tokens{1, 2, 3, 4}, others{1, 2, 3, 5};
  const PageName root = root_name(model, 0);
  EXPECT_EQ(root, root_name(model, 0));
  EXPECT_NE(root, root_name(other_model, 0));
  EXPECT_NE(root, root_name(model, 1));
  const PageName first = page_name(root, tokens);
  EXPECT_EQ(first, page_name(root, tokens));
  EXPECT_NE(first, page_name(root, others));
  EXPECT_NE(page_name(first, tokens), page_name(page_name(root, others), tokens));
}

TEST(PagePool, GivesFreePagesThenIdleOnesThatNoCopyUses) {
  PagePool pool(4, 1);
  const PageName root{9, 9};
  std::vector<int32_t> pages;
  for (TokenId id = 1; id <= 3; ++id) {
    const std::vector<TokenId> tokens{id};
    pages.push_back(pool.take());
    pool.set_name(pages.back(), page_name(root, tokens), root, tokens);
  }
  for (const int32_t page : pages) pool.release(page);
  EXPECT_EQ(pool.available(), 4);
  EXPECT_EQ(pool.idle(), 3);
  pool.pin(pages[0]);
  EXPECT_EQ(pool.available(), 3);
  EXPECT_EQ(pool.pinned_idle(), 1);
  EXPECT_EQ(pool.take(), 3) << "the free one first";
  EXPECT_EQ(pool.take(), pages[1]) << "the oldest but for the pinned one";
  pool.acquire(pages[0]);
  EXPECT_EQ(pool.pinned_idle(), 0);
  pool.release(pages[0]);
  pool.unpin(pages[0]);
  EXPECT_EQ(pool.take(), pages[2]) << "used before the other";
  pool.forget_name(pages[0]);
  EXPECT_EQ(pool.idle(), 0);
  EXPECT_EQ(pool.take(), pages[0]);
  EXPECT_EQ(pool.available(), 0);
}

}  // namespace
}  // namespace tandem::scheduler
