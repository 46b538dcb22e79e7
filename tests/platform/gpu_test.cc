// The list of GPUs is never empty without a reason.
#include "platform/gpu.h"

#include <gtest/gtest.h>

namespace tandem::platform {
namespace {

TEST(Gpus, AreListedOrMissingForAReason) {
  const Gpus gpus = find_gpus();
  EXPECT_EQ(gpus.list.empty(), gpus.missing.starts_with("no GPU: ")) << gpus.missing;
  for (const Gpu& gpu : gpus.list) {
    EXPECT_FALSE(gpu.name.empty());
    EXPECT_GE(gpu.compute, 50);
    EXPECT_GT(gpu.multiprocessors, 0);
    EXPECT_LE(gpu.free_bytes, gpu.memory_bytes);
  }
  // Asking again, after a failure too, gives the same answer.
  EXPECT_EQ(find_gpus().missing, gpus.missing);
}

}  // namespace
}  // namespace tandem::platform
