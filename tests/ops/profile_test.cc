// Operators nest, and what is inside another counts to it; a profile that is off does nothing.
#include "ops/profile.h"

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

TEST(Profile, CountsCallsAndWorkByOperator) {
  Profile profile;
  for (int i = 0; i < 3; ++i) {
    const Profile::Scope timed(&profile, Op::kLinear);
    timed.add(100, 7);
  }
  { const Profile::Scope timed(&profile, Op::kNorm); }
  EXPECT_EQ(profile.of(Op::kLinear).calls, 3);
  EXPECT_EQ(profile.of(Op::kLinear).bytes, 300);
  EXPECT_EQ(profile.of(Op::kLinear).macs, 21);
  EXPECT_GT(profile.of(Op::kLinear).seconds, 0.0);
  EXPECT_EQ(profile.of(Op::kNorm).calls, 1);
  EXPECT_EQ(profile.of(Op::kNorm).bytes, 0);
  EXPECT_EQ(profile.of(Op::kRope).calls, 0);
  profile.clear();
  EXPECT_EQ(profile.of(Op::kLinear).calls, 0);
  EXPECT_EQ(profile.of(Op::kLinear).macs, 0);
}

TEST(Profile, AnInnerOperatorCountsToTheOuterOne) {
  Profile profile;
  {
    const Profile::Scope output(&profile, Op::kOutput);
    for (int i = 0; i < 2; ++i) {
      const Profile::Scope linear(&profile, Op::kLinear);
      linear.add(10, 1);
    }
    output.add(1, 0);
  }
  { const Profile::Scope linear(&profile, Op::kLinear); }
  EXPECT_EQ(profile.of(Op::kOutput).calls, 1);
  EXPECT_EQ(profile.of(Op::kOutput).bytes, 21);
  EXPECT_EQ(profile.of(Op::kOutput).macs, 2);
  EXPECT_EQ(profile.of(Op::kLinear).calls, 1);
  EXPECT_EQ(profile.of(Op::kLinear).bytes, 0);
}

TEST(Profile, OffDoesNothing) {
  const Profile::Scope timed(nullptr, Op::kLinear);
  timed.add(1, 1);
}

TEST(Profile, OperatorsHaveNames) {
  EXPECT_EQ(name_of(Op::kEmbed), "embed");
  EXPECT_EQ(name_of(Op::kOutput), "output");
  EXPECT_EQ(name_of(Op::kSample), "sample");
}

}  // namespace
}  // namespace tandem::ops
