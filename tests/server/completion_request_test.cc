// Prompts and the fields of text completions.
#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "server/generation_request.h"
#include "tests/server/fakes.h"

namespace tandem::server {
namespace {

using testing::ByteTokenizer;
using testing::fake_model;
using Ids = std::vector<tokenizer::TokenId>;

Result<GenerationRequest> parse(const std::string& text) {
  return parse_completion_request(boost::json::parse(text).as_object(), {}, fake_model());
}

TEST(CompletionRequest, ReadsFourFormsOfPrompts) {
  const Ids ab = {ByteTokenizer::kBos, 'a', 'b'};
  EXPECT_EQ(parse(R"({"prompt": "ab"})")->prompts, (std::vector<Ids>{ab}));
  EXPECT_EQ(parse(R"({"prompt": ["ab", "c"]})")->prompts,
            (std::vector<Ids>{ab, {ByteTokenizer::kBos, 'c'}}));
  EXPECT_EQ(parse(R"({"prompt": [97, 98]})")->prompts, (std::vector<Ids>{{'a', 'b'}}));
  EXPECT_EQ(parse(R"({"prompt": [[97], [98, 99]]})")->prompts,
            (std::vector<Ids>{{'a'}, {'b', 'c'}}));
}

TEST(CompletionRequest, RefusesOtherPrompts) {
  for (const char* prompt : {"5", "true", "{}", "[]", "[[]]", "[263]", "[-1]", "[1.5]",
                             "[1, \"a\"]", "[\"a\", 1]", "[[\"a\"]]", "[null]"}) {
    const auto request = parse("{\"prompt\": " + std::string(prompt) + "}");
    ASSERT_FALSE(request) << prompt;
    EXPECT_EQ(request.failure().param, "prompt") << prompt;
  }
  EXPECT_EQ(parse("{}").failure().code, "missing_required_parameter");
}

TEST(CompletionRequest, BoundsTheNumberOfAnswers) {
  std::string many = "[\"a\"";
  for (int i = 1; i < 65; ++i) many += ", \"a\"";
  many += "]";
  EXPECT_TRUE(parse("{\"prompt\": " + many + "}"));
  EXPECT_FALSE(parse("{\"n\": 2, \"prompt\": " + many + "}"));
}

TEST(CompletionRequest, ReadsOrRefusesItsFields) {
  struct Row {
    const char* fields;
    const char* param;
  };
  const Row rows[] = {
      {R"("best_of": 1)", nullptr},
      {R"("n": 2, "best_of": 2)", nullptr},
      {R"("best_of": 3)", "best_of"},
      {R"("logprobs": 5)", nullptr},
      {R"("logprobs": null)", nullptr},
      {R"("logprobs": 6)", "logprobs"},
      {R"("echo": true)", nullptr},
      {R"("echo": true, "logprobs": 1)", "echo"},
      {R"("suffix": "")", nullptr},
      {R"("suffix": "end")", "suffix"},
      {R"("max_tokens": 0)", "max_tokens"},
      {R"("stream": true, "repetition_penalty": 1.0, "ignore_eos": true)", nullptr},
  };
  for (const Row& row : rows) {
    const auto request = parse(std::string("{\"prompt\": \"a\", ") + row.fields + "}");
    EXPECT_EQ(request.ok(), row.param == nullptr) << row.fields;
    if (!request && row.param != nullptr) {
      EXPECT_EQ(request.failure().param, row.param);
    }
  }
}

TEST(CompletionRequest, HasOpenAIsDefaults) {
  const auto request = parse(R"({"prompt": "ab", "echo": true})");
  EXPECT_EQ(request->max_tokens, 16);
  EXPECT_EQ(request->echoes, (std::vector<std::string>{"ab"}));
  EXPECT_FALSE(request->logprobs);
}

}  // namespace
}  // namespace tandem::server
