// The shapes of answers, byte for byte where clients depend on it.
#include "server/answers.h"

#include <cmath>

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace tandem::server {
namespace {

namespace json = boost::json;

const AnswerHead kChatHead = {
    .kind = RequestKind::kChat, .id = "chatcmpl-A", .created = 1, .model = "m"};
const AnswerHead kTextHead = {
    .kind = RequestKind::kCompletion, .id = "cmpl-A", .created = 1, .model = "m"};

std::string chat_event(const std::string& choices_and_usage) {
  return R"(data: {"id":"chatcmpl-A","object":"chat.completion.chunk","created":1,"model":"m",)"
         R"("system_fingerprint":"tandem-0.1.0",)" +
         choices_and_usage + "}\n\n";
}

ChoiceDelta content(const std::string& text) {
  ChoiceDelta delta;
  delta.output.content = text;
  return delta;
}

TEST(Answers, StreamsChatAsOpenAIDoes) {
  const GenerationRequest request;
  const ChunkUsage asked = {.asked = true};
  EXPECT_EQ(role_chunk(kChatHead, 0, asked),
            chat_event(R"("choices":[{"index":0,"delta":{"role":"assistant","content":""},)"
                       R"("logprobs":null,"finish_reason":null}],"usage":null)"));
  EXPECT_EQ(delta_chunk(kChatHead, request, 0, content("Hi"), asked),
            chat_event(R"("choices":[{"index":0,"delta":{"content":"Hi"},)"
                       R"("logprobs":null,"finish_reason":null}],"usage":null)"));
  EXPECT_EQ(finish_chunk(kChatHead, 0, "stop", asked),
            chat_event(R"("choices":[{"index":0,"delta":{},)"
                       R"("logprobs":null,"finish_reason":"stop"}],"usage":null)"));
  EXPECT_EQ(
      usage_chunk(kChatHead, {.prompt_tokens = 12, .completion_tokens = 1, .cached_tokens = 8}),
      chat_event(R"("choices":[],"usage":{"prompt_tokens":12,"completion_tokens":1,)"
                 R"("total_tokens":13,"prompt_tokens_details":{"cached_tokens":8,)"
                 R"("audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,)"
                 R"("audio_tokens":0,"accepted_prediction_tokens":0,)"
                 R"("rejected_prediction_tokens":0}})"));
}

TEST(Answers, LeavesUsageOutUnlessAsked) {
  EXPECT_EQ(role_chunk(kChatHead, 0, {}).find("usage"), std::string::npos);
  const Usage usage = {.prompt_tokens = 3, .completion_tokens = 2};
  const std::string chunk = role_chunk(kChatHead, 0, {.asked = true, .usage = &usage});
  EXPECT_NE(chunk.find(R"("usage":{"prompt_tokens":3)"), std::string::npos);
}

TEST(Answers, StreamsToolCalls) {
  ChoiceDelta delta;
  delta.output.tool_calls = {{.index = 1, .id = "call_a", .name = "f", .arguments = "{}"}};
  const std::string first = delta_chunk(kChatHead, {}, 0, delta, {});
  EXPECT_NE(first.find(R"("delta":{"tool_calls":[{"index":1,"id":"call_a","type":"function",)"
                       R"("function":{"name":"f","arguments":"{}"}}]})"),
            std::string::npos)
      << first;
  delta.output.tool_calls = {{.index = 1, .id = "", .name = "", .arguments = "x"}};
  EXPECT_NE(
      delta_chunk(kChatHead, {}, 0, delta, {}).find(R"({"index":1,"function":{"arguments":"x"}})"),
      std::string::npos);
}

TEST(Answers, StreamsCompletionsInTheirOwnShape) {
  EXPECT_EQ(delta_chunk(kTextHead, {}, 2, content(" Hi"), {}),
            R"(data: {"id":"cmpl-A","object":"text_completion","created":1,"model":"m",)"
            R"("system_fingerprint":"tandem-0.1.0",)"
            R"("choices":[{"index":2,"text":" Hi","logprobs":null,"finish_reason":null}]})"
            "\n\n");
}

TEST(Answers, WritesLogprobs) {
  GenerationRequest request;
  request.logprobs = true;
  ChoiceDelta delta = content(" Hi");
  delta.tokens = {{.bytes = " Hi", .logprob = -0.1F, .top = {{" Hi", -0.1F}, {"\xe2", -INFINITY}}}};
  const std::string chunk = delta_chunk(kChatHead, request, 0, delta, {});
  EXPECT_NE(chunk.find(R"("logprobs":{"content":[{"token":" Hi","logprob":-0.1,)"
                       R"("bytes":[32,72,105],"top_logprobs":[{"token":" Hi","logprob":-0.1,)"
                       R"("bytes":[32,72,105]},{"token":")"
                       "\xef\xbf\xbd"
                       R"(","logprob":-9999.0,"bytes":[226]}]}],"refusal":null})"),
            std::string::npos)
      << chunk;
  delta.tokens[0].text_offset = 7;
  EXPECT_NE(delta_chunk(kTextHead, request, 0, delta, {})
                .find(R"("logprobs":{"tokens":[" Hi"],"token_logprobs":[-0.1],"top_logprobs":)"
                      R"([{" Hi":-0.1,")"),
            std::string::npos);
}

TEST(Answers, WritesWholeAnswers) {
  GatheredChoice spoken{.content = "Hi", .reasoning = "why", .finish_reason = "stop"};
  GatheredChoice called{.tool_calls = {{0, "call_a", "f", "{}"}}, .finish_reason = "tool_calls"};
  const json::value answer = json::parse(
      whole_answer(kChatHead, {}, {spoken, called}, {.prompt_tokens = 3, .completion_tokens = 4}));
  EXPECT_EQ(answer.at("object"), json::value("chat.completion"));
  EXPECT_EQ(answer.at("usage").at("total_tokens").to_number<int>(), 7);
  EXPECT_EQ(answer.at("service_tier"), json::value("default"));
  const json::array& choices = answer.at("choices").as_array();
  EXPECT_EQ(choices[0].at("message"),
            json::parse(R"({"role": "assistant", "content": "Hi", "refusal": null,
                            "reasoning_content": "why"})"));
  EXPECT_EQ(choices[1].at("index").to_number<int>(), 1);
  EXPECT_EQ(choices[1].at("message"),
            json::parse(R"({"role": "assistant", "content": null, "refusal": null, "tool_calls":
              [{"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]})"));
  EXPECT_EQ(choices[1].at("finish_reason"), json::value("tool_calls"));
}

TEST(Answers, GathersCallsByTheirIndex) {
  GatheredChoice gathered;
  for (const char* piece : {"{\"a\"", ":1}"}) {
    ChoiceDelta delta;
    delta.output.tool_calls = {{.index = 0, .id = "", .name = "", .arguments = piece}};
    gathered.append(std::move(delta));
  }
  ASSERT_EQ(gathered.tool_calls.size(), 1U);
  EXPECT_EQ(gathered.tool_calls[0].arguments, "{\"a\":1}");
}

}  // namespace
}  // namespace tandem::server
