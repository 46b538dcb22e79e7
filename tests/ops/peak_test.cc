// Every instruction set reports the products that it did; how fast is not tested.
#include "ops/peak.h"

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

TEST(Peak, ProductsGrowWithTheRounds) {
  for (const cpu::Table& table : cpu::tables()) {
    if (!table.supported) continue;
    SCOPED_TRACE(std::string(table.name));
    const int64_t one = table.peak_products(1);
    EXPECT_GT(one, 0);
    EXPECT_EQ(table.peak_products(0), 0);
    EXPECT_EQ(table.peak_products(1000), 1000 * one);
  }
}

// The loops are not folded away: products take time, and no core does more than some thousands of
// them a cycle (AMX: 16 x 16 x 64 in 16 cycles).
TEST(Peak, IsBelowWhatAnyCoreCouldDo) {
  platform::ThreadPool pool({.threads = 1, .pin = false});
  for (const cpu::Table& table : cpu::tables()) {
    if (!table.supported) continue;
    SCOPED_TRACE(std::string(table.name));
    const double peak = measure_peak_int8(pool, table);
    EXPECT_GT(peak, 0.0);
    EXPECT_LT(peak, 2.0 * 1024 * 8e9);
    if (table.name == "avx512") {  // two units of 64
      EXPECT_LT(peak, 2.0 * 2 * 64 * 8e9);
    }
  }
}

}  // namespace
}  // namespace tandem::ops
