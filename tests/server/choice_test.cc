// From token events to what a client sees.
#include "server/choice.h"

#include <gtest/gtest.h>

#include "server/answers.h"
#include "tests/server/fakes.h"

namespace tandem::server {
namespace {

using scheduler::FinishReason;
using testing::ByteTokenizer;
using testing::fake_model;
using Ids = std::vector<tokenizer::TokenId>;

class ChoiceTest : public ::testing::Test {
 protected:
  ChoiceTest() { request.prompts = {{'p'}}; }

  // Tokens of a text, in which the model's control tokens are recognised.
  static Ids ids(const std::string& text) { return ByteTokenizer().encode(text, {}); }

  // Plays the tokens; the last one carries `finish`. Returns the pieces that became visible.
  GatheredChoice play(const Ids& tokens, FinishReason finish) {
    Choice choice(request, model, 0);
    GatheredChoice gathered;
    for (size_t i = 0; i < tokens.size() && !choice.finished(); ++i) {
      const bool last = i + 1 == tokens.size();
      gathered.append(choice.push({.token = tokens[i],
                                   .logprob = -1.0F,
                                   .top = {{tokens[i], -1.0F}},
                                   .finish = last ? finish : FinishReason::kNone,
                                   .output_tokens = static_cast<int32_t>(i + 1)}));
    }
    gathered.finish_reason = choice.finish_reason();
    ended_early = choice.ended_early();
    output_tokens = choice.output_tokens();
    reasoning_tokens = choice.reasoning_tokens();
    return gathered;
  }
  GatheredChoice play_to_end(const std::string& text) {
    Ids tokens = ids(text);
    tokens.push_back(ByteTokenizer::kEnd);
    return play(tokens, FinishReason::kStop);
  }

  Model model = fake_model();
  GenerationRequest request;
  bool ended_early = false;
  int32_t output_tokens = 0;
  int32_t reasoning_tokens = 0;
};

TEST_F(ChoiceTest, HidesTheEndToken) {
  const auto answer = play_to_end("Hello");
  EXPECT_EQ(answer.content, "Hello");
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_EQ(output_tokens, 6);
  EXPECT_FALSE(ended_early);
}

TEST_F(ChoiceTest, EndsAtTheLength) {
  const auto answer = play(ids("Hello"), FinishReason::kLength);
  EXPECT_EQ(answer.content, "Hello");
  EXPECT_EQ(answer.finish_reason, "length");
}

TEST_F(ChoiceTest, HidesControlTokensUnlessAsked) {
  EXPECT_EQ(play_to_end("a<|start|>b").content, "ab");
  request.skip_special = false;
  EXPECT_EQ(play_to_end("a<|start|>b").content, "a<|start|>b");
}

TEST_F(ChoiceTest, StopsAtAStopStringAcrossTokens) {
  request.stop = {"lo w"};
  const auto answer = play_to_end("Hello world");
  EXPECT_EQ(answer.content, "Hel");
  EXPECT_EQ(answer.finish_reason, "stop");
  EXPECT_TRUE(ended_early);
  EXPECT_EQ(output_tokens, 7);
}

TEST_F(ChoiceTest, KeepsTheStopStringWhereAsked) {
  request.stop = {"lo w"};
  request.include_stop = true;
  EXPECT_EQ(play_to_end("Hello world").content, "Hello w");
}

TEST_F(ChoiceTest, ReleasesAHalfStopAtTheEnd) {
  request.stop = {"lo!"};
  EXPECT_EQ(play_to_end("Hello").content, "Hello");
}

TEST_F(ChoiceTest, DoesNotStopBeforeMinTokens) {
  request.stop = {"a"};
  request.min_tokens = 2;
  EXPECT_EQ(play_to_end("aaba").content, "aab");
}

TEST_F(ChoiceTest, ReplacesBrokenCharactersAtTheEnd) {
  EXPECT_EQ(play({'x', 0xe2, 0x82}, FinishReason::kLength).content, "x\xef\xbf\xbd");
}

TEST_F(ChoiceTest, SplitsReasoningOff) {
  const auto answer = play_to_end("<think>\nwhy\n</think>\n\nbecause");
  EXPECT_EQ(answer.reasoning, "why");
  EXPECT_EQ(answer.content, "because");
  EXPECT_GT(reasoning_tokens, 2);
  EXPECT_LT(reasoning_tokens, 8);
}

TEST_F(ChoiceTest, StartsInReasoningWhenThePromptOpenedIt) {
  request.starts_in_reasoning = true;
  const auto answer = play_to_end("why</think>because");
  EXPECT_EQ(answer.reasoning, "why");
  EXPECT_EQ(answer.content, "because");
}

TEST_F(ChoiceTest, LeavesTagsInTheContentWhereAsked) {
  request.split_reasoning = false;
  request.starts_in_reasoning = true;
  request.content_prefix = "<think>\n";
  const auto answer = play_to_end("why</think>because");
  EXPECT_EQ(answer.content, "<think>\nwhy</think>because");
  EXPECT_EQ(answer.reasoning, "");
}

TEST_F(ChoiceTest, DropsReasoningWhereAsked) {
  request.show_reasoning = false;
  const auto answer = play_to_end("<think>why</think>because");
  EXPECT_EQ(answer.reasoning, "");
  EXPECT_EQ(answer.content, "because");
  EXPECT_GT(reasoning_tokens, 0);
}

constexpr char kTwoCalls[] =
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
    "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";

TEST_F(ChoiceTest, FindsToolCalls) {
  request.parse_tools = true;
  const auto answer = play_to_end(kTwoCalls);
  ASSERT_EQ(answer.tool_calls.size(), 2U);
  EXPECT_EQ(answer.tool_calls[0].name, "f");
  EXPECT_EQ(answer.tool_calls[1].name, "g");
  EXPECT_EQ(answer.finish_reason, "tool_calls");
  EXPECT_EQ(answer.content, "");
}

TEST_F(ChoiceTest, CutsAfterTheFirstCallWithoutParallelCalls) {
  request.parse_tools = true;
  request.parallel_tool_calls = false;
  const auto answer = play_to_end(kTwoCalls);
  ASSERT_EQ(answer.tool_calls.size(), 1U);
  EXPECT_EQ(answer.finish_reason, "tool_calls");
  EXPECT_TRUE(ended_early);
}

TEST_F(ChoiceTest, ShowsCallsAsTextWithoutTools) {
  // The marks are control tokens here, and hidden as such.
  EXPECT_NE(play_to_end(kTwoCalls).content.find("\"name\": \"f\""), std::string::npos);
}

TEST_F(ChoiceTest, DescribesTokens) {
  request.logprobs = true;
  const auto answer = play_to_end("ab");
  ASSERT_EQ(answer.tokens.size(), 2U);  // not the hidden end
  EXPECT_EQ(answer.tokens[1].bytes, "b");
  EXPECT_EQ(answer.tokens[1].logprob, -1.0F);
  EXPECT_EQ(answer.tokens[1].text_offset, 1);
  ASSERT_EQ(answer.tokens[1].top.size(), 1U);
}

TEST_F(ChoiceTest, KeepsTheLeadingSpaceOfACompletion) {
  EXPECT_EQ(play_to_end(" a").content, "a");  // as the tokenizer says for a beginning
  request.kind = RequestKind::kCompletion;
  EXPECT_EQ(play_to_end(" a").content, " a");
}

TEST_F(ChoiceTest, ReportsFailures) {
  Choice choice(request, model, 0);
  choice.push({.top = {}, .finish = FinishReason::kError, .error = "no memory"});
  EXPECT_TRUE(choice.finished());
  EXPECT_NE(choice.error().find("no memory"), std::string::npos);
}

}  // namespace
}  // namespace tandem::server
