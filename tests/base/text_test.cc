// Text from outside keeps to its line.
#include "base/text.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tandem {
namespace {

TEST(OneLine, ReplacesControlCharactersOnly) {
  EXPECT_EQ(one_line("a\nb\r\tc\x1b[31m\x7f"), "a?b??c?[31m?");
  EXPECT_EQ(one_line("naïve 東京"), "naïve 東京");
}

TEST(Error, IsOneLineWhateverItQuotes) {
  EXPECT_STREQ(Error("tensor '{}'", "x\ny").what(), "tensor 'x?y'");
  EXPECT_STREQ(Error(std::string("a\nb")).what(), "a?b");
}

}  // namespace
}  // namespace tandem
