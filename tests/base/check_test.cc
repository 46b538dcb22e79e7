// A broken invariant ends the program and says what was compared.
#include "base/check.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(CheckTest, HoldsSilently) {
  const int rows = 3;
  TANDEM_CHECK(rows == 3, "rows {}", rows);
}

TEST(CheckTest, EvaluatesTheConditionOnce) {
  int calls = 0;
  TANDEM_CHECK(++calls > 0, "calls {}", calls);
  EXPECT_EQ(calls, 1);
}

TEST(CheckTest, LeavesTheDetailAloneWhenItHolds) {
  int formatted = 0;
  TANDEM_CHECK(true, "{}", ++formatted);
  EXPECT_EQ(formatted, 0);
}

TEST(CheckTest, IsOneStatement) {
  bool other_branch = false;
  if (false)
    TANDEM_CHECK(false, "never reached");
  else
    other_branch = true;
  EXPECT_TRUE(other_branch);
}

TEST(CheckDeathTest, PrintsPlaceExpressionAndValues) {
  const int rows = 3;
  EXPECT_DEATH(TANDEM_CHECK(rows == 4, "rows {}", rows),
               "tandem: bug at .*check_test.cc:[0-9]+: rows == 4 is false: rows 3");
}

}  // namespace
}  // namespace tandem
