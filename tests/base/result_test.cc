// Result carries a value or a failure, and refuses to be read as the other one.
#include "base/result.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace tandem {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) {
    return Failure{.message = "an odd number has no half", .param = "number"};
  }
  return number / 2;
}

TEST(ResultTest, CarriesAValue) {
  const Result<int> result = half(6);
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result);
  EXPECT_EQ(result.value(), 3);
  EXPECT_EQ(*result, 3);
}

TEST(ResultTest, CarriesAFailure) {
  const Result<int> result = half(5);
  ASSERT_FALSE(result.ok());
  EXPECT_FALSE(result);
  EXPECT_EQ(result.failure().message, "an odd number has no half");
  EXPECT_EQ(result.failure().param, "number");
  EXPECT_EQ(result.failure().code, "invalid_value");
}

TEST(ResultTest, ReachesMembersOfTheValue) {
  const Result<std::string> result = std::string("four");
  EXPECT_EQ(result->size(), 4U);
}

TEST(ResultTest, HandsOutAMoveOnlyValue) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  const std::unique_ptr<int> taken = std::move(result.value());
  EXPECT_EQ(*taken, 7);
}

TEST(ResultTest, TellsSuccessFromFailureWhenTheValueIsAFailureMessage) {
  const Result<std::string> result = std::string("an odd number has no half");
  EXPECT_TRUE(result.ok());
}

TEST(ResultDeathTest, ReadingAMissingValueShowsTheFailure) {
  const Result<int> result = half(5);
  EXPECT_DEATH(result.value(), "an odd number has no half");
}

TEST(ResultDeathTest, ReadingAMissingFailureIsABug) {
  const Result<int> result = half(6);
  EXPECT_DEATH(result.failure(), "asked for the failure of a success");
}

}  // namespace
}  // namespace tandem
