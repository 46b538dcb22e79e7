// Chat templates, and what models say.
#include <boost/json.hpp>

#include "base/json.h"
#include "chat/chat_template.h"
#include "chat/output_parser.h"
#include "tests/fuzz/targets.h"
#include "tokenizer/detokenizer.h"

namespace tandem::fuzz {
namespace {

namespace json = boost::json;

const json::object& conversation() {
  static const json::object context = json::parse(R"({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 6 times 7?"},
        {"role": "assistant", "content": "", "reasoning_content": "Easy.", "tool_calls": [
          {"id": "c1", "type": "function",
           "function": {"name": "multiply", "arguments": {"a": 6, "b": [7, null, 1.5e-7]}}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"}],
      "tools": [{"type": "function", "function": {"name": "multiply",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}],
      "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
      "enable_thinking": true})")
                                          .as_object();
  return context;
}

chat::OutputFormat format_number(unsigned number) {
  using Tools = chat::OutputFormat::Tools;
  switch (number % 6) {
    case 0:
      return {"<think>", "</think>", Tools::kJsonInTags, "<tool_call>", "</tool_call>"};
    case 1:
      return {"<think>", "</think>", Tools::kDeepSeek, "<｜tool▁calls▁begin｜>",
              "<｜tool▁calls▁end｜>"};
    case 2:
      return {"<think>", "</think>", Tools::kKimi, "<|tool_calls_section_begin|>",
              "<|tool_calls_section_end|>"};
    case 3:
      return {"", "", Tools::kXmlParameters, "<tool_call>", "</tool_call>"};
    case 4:
      return {"<think>", "</think>", Tools::kArgKeyValue, "<tool_call>", "</tool_call>"};
    default:
      return {"<think>", "</think>", Tools::kNone, "", ""};
  }
}

}  // namespace

void jinja(Bytes bytes) {
  const auto parsed = chat::ChatTemplate::parse(std::string(text_of(bytes)));
  chat::detect_format(text_of(bytes));
  if (!parsed) return;
  std::tm now{};
  now.tm_year = 126;
  now.tm_mday = 1;
  static_cast<void>((*parsed)->render(conversation(), now));
}

// The first byte chooses format and options, the second where the text is cut.
void output(Bytes bytes) {
  if (bytes.size() < 2) return;
  const unsigned choice = bytes[0];
  const size_t piece = 1 + bytes[1] % 16;
  static const json::array tools = conversation().at("tools").as_array();
  const auto parser =
      chat::OutputParser::create(format_number(choice), {.starts_in_reasoning = (choice & 64) != 0,
                                                         .split_reasoning = (choice & 128) == 0,
                                                         .parse_tools = true,
                                                         .tools = &tools});
  const std::string text = tokenizer::to_valid_utf8(std::string(text_of(bytes.subspan(2))));
  size_t shown = 0;
  const auto count = [&](const chat::OutputDelta& delta) {
    shown += delta.content.size() + delta.reasoning.size();
    for (const auto& call : delta.tool_calls) shown += call.arguments.size();
  };
  for (size_t at = 0; at < text.size(); at += piece) count(parser->push(text.substr(at, piece)));
  count(parser->finish());
  // Escapes and defaults make arguments longer than what was said, within reason.
  TANDEM_CHECK(shown <= 16 * text.size() + 4096, "{} bytes became {}", text.size(), shown);
}

}  // namespace tandem::fuzz
