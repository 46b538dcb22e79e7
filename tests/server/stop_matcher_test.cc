// Stop strings, with the text cut at every place.
#include "server/stop_matcher.h"

#include <gtest/gtest.h>

namespace tandem::server {
namespace {

struct Case {
  std::vector<std::string> stops;
  bool include;
  std::string text;
  std::string expected;
  bool matched;
};

const std::vector<Case> kCases = {
    {{}, false, "all of it", "all of it", false},
    {{"STOP"}, false, "go STOP on", "go ", true},
    {{"STOP"}, true, "go STOP on", "go STOP", true},
    {{"STOP"}, false, "go STO", "go STO", false},
    {{"STOP"}, false, "STOP", "", true},
    {{"\n\n"}, false, "a\nb\n\nc", "a\nb", true},
    {{"aab"}, false, "aaaab", "aa", true},        // a failed start overlaps the real one
    {{"abab"}, false, "ababab", "", true},        // the earliest counts
    {{"xyz", "y"}, false, "wxyz", "wx", true},    // the one that is complete first
    {{"b", "abc"}, false, "zabc", "za", true},    // likewise
    {{"ab", "a"}, true, "xab", "xa", true},       // of two that begin together the shorter
    {{"é"}, false, "caf\xc3\xa9!", "caf", true},  // bytes of one character
    {{"", "q"}, false, "pqr", "p", true},         // an empty stop string stops nothing
    {{"aaa"}, false, "aa aa aaa", "aa aa ", true},
};

// Pushes the pieces; what became visible, to the end.
std::string run(const Case& c, const std::vector<std::string>& pieces, bool& matched) {
  StopMatcher matcher(c.stops, c.include);
  std::string visible;
  for (const std::string& piece : pieces) {
    const std::string added = matcher.push(piece);
    visible += added;
    // Whatever was shown stays shown.
    EXPECT_EQ(c.expected.compare(0, visible.size(), visible), 0) << visible;
  }
  if (!matcher.matched()) visible += matcher.flush();
  matched = matcher.matched();
  return visible;
}

TEST(StopMatcher, FindsStopsHoweverTheTextIsCut) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    // Every subset of cuts.
    for (unsigned cuts = 0; cuts < 1U << (c.text.size() - 1); ++cuts) {
      std::vector<std::string> pieces(1);
      for (size_t i = 0; i < c.text.size(); ++i) {
        pieces.back() += c.text[i];
        if ((cuts >> i & 1) != 0) pieces.emplace_back();
      }
      bool matched = false;
      ASSERT_EQ(run(c, pieces, matched), c.expected) << "cuts " << cuts;
      ASSERT_EQ(matched, c.matched) << "cuts " << cuts;
    }
  }
}

TEST(StopMatcher, HoldsBackNoMoreThanNeeded) {
  StopMatcher matcher({"<end>"}, false);
  EXPECT_EQ(matcher.push("text <e"), "text ");
  EXPECT_EQ(matcher.push("x"), "<ex");
  EXPECT_EQ(matcher.push("<"), "");
  EXPECT_EQ(matcher.flush(), "<");
}

TEST(StopMatcher, SaysNothingAfterTheMatch) {
  StopMatcher matcher({"."}, false);
  EXPECT_EQ(matcher.push("a.b"), "a");
  EXPECT_EQ(matcher.push("c"), "");
  EXPECT_EQ(matcher.flush(), "");
}

}  // namespace
}  // namespace tandem::server
