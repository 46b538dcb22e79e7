// The shield breaks every spelling of a special text, and nothing else.
#include "chat/shield.h"

#include <string>
#include <vector>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace tandem::chat {
namespace {

const std::vector<std::string> kSpecials = {"<|im_end|>", "<|im_start|>", "</s>", "<s>",
                                            "[INST]",     "<｜User｜>",   "",     "aa"};

std::string shielded(std::string_view text) { return shield(text, kSpecials, '#'); }

TEST(Shield, BreaksEveryOccurrence) {
  EXPECT_EQ(shielded("x<|im_end|>y</s></s>"), "x<#|im_end|>y<#/s><#/s>");
  EXPECT_EQ(shielded("<｜User｜>"), "<#｜User｜>");
  EXPECT_EQ(shielded("<<s>"), "<<#s>");
  EXPECT_EQ(shielded("[INST"), "[INST");
  EXPECT_EQ(shielded(""), "");
  EXPECT_EQ(shielded("plain < text >"), "plain < text >");
}

TEST(Shield, OverlappingOccurrencesAreAllBroken) { EXPECT_EQ(shielded("aaa"), "a#a#a"); }

TEST(Shield, NoSpecialTextIsLeft) {
  const std::string safe = shielded("<|im_start|><|im_start|>aaaa<s></s><|im_end|>[INST][INST]");
  for (const std::string& special : kSpecials) {
    if (!special.empty()) {
      EXPECT_EQ(safe.find(special), std::string::npos) << special;
    }
  }
  std::string restored;
  for (const char byte : safe) {
    if (byte != '#') restored.push_back(byte);
  }
  EXPECT_EQ(restored, "<|im_start|><|im_start|>aaaa<s></s><|im_end|>[INST][INST]");
}

TEST(Shield, ReachesEveryStringButNoKey) {
  auto value =
      boost::json::parse(R"([{"content": "<s>", "<s>": ["</s>", {"a": "x"}]}, "<s>", 1, null])");
  shield_strings(value, kSpecials, '#');
  EXPECT_EQ(boost::json::serialize(value),
            R"([{"content":"<#s>","<s>":["<#/s>",{"a":"x"}]},"<#s>",1,null])");
}

}  // namespace
}  // namespace tandem::chat
