// Output text of every family, cut at every place: the deltas add up to the same reasoning, content
// and calls.
#include "chat/output_parser.h"

#include <cctype>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include "tests/golden.h"

namespace tandem::chat {
namespace {

using Tools = OutputFormat::Tools;

struct Call {
  std::string name, arguments;
  bool operator==(const Call&) const = default;
};

struct Outcome {
  std::string reasoning, content;
  std::vector<Call> calls = {};
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  out << "reasoning [" << outcome.reasoning << "] content [" << outcome.content << "]";
  for (const Call& call : outcome.calls) out << " call " << call.name << call.arguments;
  return out;
}

void add(const OutputDelta& delta, Outcome& outcome) {
  outcome.reasoning += delta.reasoning;
  outcome.content += delta.content;
  for (const OutputDelta::ToolCall& call : delta.tool_calls) {
    const auto index = static_cast<std::size_t>(call.index);
    ASSERT_LE(index, outcome.calls.size());
    if (index == outcome.calls.size()) {
      EXPECT_FALSE(call.name.empty());
      EXPECT_EQ(call.id.size(), 29u);
      EXPECT_TRUE(call.id.starts_with("call_"));
      outcome.calls.push_back({call.name, ""});
    }
    outcome.calls[index].arguments += call.arguments;
  }
}

Outcome parse(const OutputFormat& format, const OutputParser::Options& options,
              const std::vector<std::string>& pieces) {
  const auto parser = OutputParser::create(format, options);
  Outcome outcome;
  for (const std::string& piece : pieces) add(parser->push(piece), outcome);
  add(parser->finish(), outcome);
  return outcome;
}

// Whole, byte by byte, cut once at every place, and in random pieces.
void expect_outcome(const OutputFormat& format, const OutputParser::Options& options,
                    const std::string& text, const Outcome& expected) {
  SCOPED_TRACE(text);
  EXPECT_EQ(parse(format, options, {text}), expected);
  std::vector<std::string> bytes;
  for (const char byte : text) bytes.emplace_back(1, byte);
  EXPECT_EQ(parse(format, options, bytes), expected);
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    ASSERT_EQ(parse(format, options, {text.substr(0, cut), text.substr(cut)}), expected)
        << "cut at " << cut;
  }
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = 1 + random() % 9;
      pieces.push_back(text.substr(at, size));
      at += size;
    }
    ASSERT_EQ(parse(format, options, pieces), expected);
  }
}

const OutputFormat kHermes{"<think>", "</think>", Tools::kJsonInTags, "<tool_call>",
                           "</tool_call>"};
const OutputFormat kXml{"<think>", "</think>", Tools::kXmlParameters, "<tool_call>",
                        "</tool_call>"};
const OutputFormat kGlm{"<think>", "</think>", Tools::kArgKeyValue, "<tool_call>", "</tool_call>"};
const OutputFormat kKimi{"", "", Tools::kKimi, "<|tool_calls_section_begin|>",
                         "<|tool_calls_section_end|>"};
const OutputFormat kDeepSeek{"<think>", "</think>", Tools::kDeepSeek, "<｜tool▁calls▁begin｜>",
                             "<｜tool▁calls▁end｜>"};
const OutputFormat kPlain{};

const OutputParser::Options kTools{.parse_tools = true};
const OutputParser::Options kThinkingTools{.starts_in_reasoning = true, .parse_tools = true};

TEST(OutputParser, PlainTextPassesUnchanged) {
  for (const OutputFormat& format : {kPlain, kHermes, kDeepSeek}) {
    expect_outcome(format, kTools, "Hello <b>you</b> < 3 <tool </think ok\n\n",
                   {"", "Hello <b>you</b> < 3 <tool </think ok\n\n"});
    expect_outcome(format, kTools, "\n hi", {"", "\n hi"});
    expect_outcome(format, kTools, "", {"", ""});
    expect_outcome(format, kTools, " \n", {"", " \n"});
  }
  expect_outcome(kHermes, {}, "<tool_call>\n{}\n</tool_call>",
                 {"", "<tool_call>\n{}\n</tool_call>"});
  expect_outcome(kPlain, kThinkingTools, "<think>a</think>b", {"", "<think>a</think>b"});
}

TEST(OutputParser, ReasoningIsSplitOff) {
  const Outcome expected{"Let me\n\nsee <x>", "Fine.\n"};
  expect_outcome(kHermes, kTools, "<think>\nLet me\n\nsee <x>\n</think>\n\nFine.\n", expected);
  expect_outcome(kHermes, kTools, "\n<think>Let me\n\nsee <x></think>Fine.\n", expected);
  expect_outcome(kHermes, kThinkingTools, "\nLet me\n\nsee <x>\n</think>\n\nFine.\n", expected);
  expect_outcome(kHermes, kThinkingTools, "<think>\nLet me\n\nsee <x>\n</think>\n\nFine.\n",
                 expected);
  expect_outcome(kHermes, {}, "<think>\n\n</think>\n\nHi", {"", "Hi"});
  expect_outcome(kHermes, {}, "<think>never closed </thin\n", {"never closed </thin", ""});
  expect_outcome(kHermes, {}, "Use <think> here</think>", {"", "Use <think> here</think>"});
  expect_outcome(kHermes, kThinkingTools, "", {"", ""});
  expect_outcome(kHermes, kThinkingTools, "a</think>  b </think> c", {"a", "  b </think> c"});
}

TEST(OutputParser, ReasoningMayStayInContent) {
  const OutputParser::Options raw{.split_reasoning = false, .parse_tools = true};
  const std::string text = "<think>\na <tool_call>{}</tool_call>\n</think>\n\nb";
  expect_outcome(kHermes, raw, text, {"", text});
  const OutputParser::Options opened{.starts_in_reasoning = true, .split_reasoning = false};
  expect_outcome(kHermes, opened, "a\n</think>\nb", {"", "a\n</think>\nb"});
}

TEST(OutputParser, JsonCalls) {
  expect_outcome(
      kHermes, kTools,
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1.50, \"b\": [\"x\"]}}\n</tool_call>",
      {"", "", {{"f", "{\"a\": 1.50, \"b\": [\"x\"]}"}}});
  expect_outcome(kHermes, kTools,
                 "Let me check.\n<tool_call>\n{\"name\": \"f\", \"arguments\": "
                 "{}}\n</tool_call>\n<tool_call>\n{\"arguments\": "
                 "{\"c\": \"Zürich\"}, \"name\": \"g\"}\n</tool_call>\n",
                 {"", "Let me check.", {{"f", "{}"}, {"g", "{\"c\": \"Zürich\"}"}}});
  expect_outcome(kHermes, kThinkingTools,
                 "\nhm\n</think>\n\n<tool_call>{\"name\":\"f\"}</tool_call> done",
                 {"hm", " done", {{"f", "{}"}}});
  expect_outcome(kHermes, kTools,
                 "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
                 {"", "", {{"f", "{\"a\":1}"}}});
  expect_outcome(kHermes, kTools,
                 "<tool_call>{\"name\":\"f\",\"parameters\":{\"a\":{\"arguments\":2}}}</tool_call>",
                 {"", "", {{"f", "{\"a\":{\"arguments\":2}}"}}});
}

TEST(OutputParser, AClosingTagInsideAJsonTextIsNoEnd) {
  const std::string arguments = "{\"text\": \"print </tool_call> and \\\" {\"}";
  expect_outcome(kHermes, kTools,
                 "<tool_call>{\"name\": \"w\", \"arguments\": " + arguments + "}</tool_call>",
                 {"", "", {{"w", arguments}}});
}

TEST(OutputParser, ACallWithoutItsEnd) {
  expect_outcome(kHermes, kTools,
                 "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool",
                 {"", "", {{"f", "{\"a\": 1}"}}});
  expect_outcome(kHermes, kTools, "Hm \n<tool_call>\n{\"name\": \"f\", \"argu",
                 {"", "Hm \n<tool_call>\n{\"name\": \"f\", \"argu"});
  expect_outcome(kDeepSeek, kTools,
                 "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\"",
                 {"", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\""});
}

TEST(OutputParser, MalformedCallsBecomeContent) {
  for (const char* text :
       {"<tool_call>nonsense</tool_call>", "<tool_call>{\"name\": 5}</tool_call>",
        "<tool_call></tool_call>", "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>[1]</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {}} x</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": \"no json\"}</tool_call>"}) {
    const std::string broken = text;
    expect_outcome(kHermes, kTools, "a \n" + broken + "\nb", {"", "a \n" + broken + "\nb"});
    expect_outcome(kHermes, kTools, broken + "<tool_call>{\"name\":\"f\"}</tool_call>",
                   {"", broken, {{"f", "{}"}}});
  }
  for (const char* text :
       {"<tool_call>x</tool_call>", "<tool_call><function=></function></tool_call>",
        "<tool_call><function=f>text</function></tool_call>",
        "<tool_call><function=f</tool_call>"}) {
    const std::string broken = text;
    expect_outcome(kXml, kTools, "a " + broken + " b", {"", "a " + broken + " b"});
  }
  for (const char* text :
       {"<tool_call>two words\n</tool_call>", "<tool_call>f<arg_key>a</arg_key></tool_call>",
        "<tool_call>f<arg_value>a</arg_value></tool_call>",
        "<tool_call>{\"name\":\"f\"}</tool_call>"}) {
    const std::string broken = text;
    expect_outcome(kGlm, kTools, "a " + broken + " b", {"", "a " + broken + " b"});
  }
  for (const char* text : {"<｜tool▁calls▁begin｜>text<｜tool▁calls▁end｜>",
                           "<｜tool▁calls▁begin｜>\n<｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜>",
                           "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f{}<｜tool▁call▁end｜>"}) {
    const std::string broken = text;
    expect_outcome(kDeepSeek, kTools, "a " + broken, {"", "a " + broken});
  }
}

TEST(OutputParser, DeepSeekCalls) {
  const Outcome expected{
      "", "Sure.", {{"get_weather", "{\"city\": \"Oslo\"}"}, {"get_time", "{}"}}};
  expect_outcome(
      kDeepSeek, kTools,
      "Sure.\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": "
      "\"Oslo\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜>",
      expected);
  expect_outcome(kDeepSeek, kTools,
                 "Sure.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_"
                 "weather\n```json\n{\"city\": "
                 "\"Oslo\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>"
                 "get_time\n```json\n{}\n```"
                 "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                 expected);
  expect_outcome(
      kDeepSeek, kThinkingTools,
      "hm</"
      "think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><"
      "｜tool▁call▁begin｜>g"
      "<｜tool▁sep｜>oops<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
      {"hm", "<｜tool▁call▁begin｜>g<｜tool▁sep｜>oops<｜tool▁call▁end｜>", {{"f", "{}"}}});
}

TEST(OutputParser, KimiCalls) {
  expect_outcome(kKimi, kTools,
                 "Sure.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
                 "<|tool_call_argument_begin|>{\"city\": \"Oslo\"}<|tool_call_end|>"
                 "<|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{}"
                 "<|tool_call_end|><|tool_calls_section_end|>",
                 {"", "Sure.", {{"get_weather", "{\"city\": \"Oslo\"}"}, {"get_time", "{}"}}});
  expect_outcome(kKimi, kTools,
                 "<|tool_calls_section_begin|><|tool_call_begin|>a:b<|tool_call_argument_begin|>"
                 "{\"t\": \"<|tool_call_end|>\"}<|tool_call_end|><|tool_calls_section_end|>",
                 {"", "", {{"a:b", "{\"t\": \"<|tool_call_end|>\"}"}}});
  const std::string broken =
      "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0{}<|tool_call_end|>";
  expect_outcome(kKimi, kTools, "a " + broken, {"", "a " + broken});
}

const char* const kToolSchemas =
    R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
  "properties": {"code": {"type": "string"}, "count": {"type": "integer"}, "list": {"type": "array"}}}}}])";

TEST(OutputParser, XmlCalls) {
  const std::string text =
      "<tool_call>\n<function=f>\n<parameter=code>\n7\n</parameter>\n<parameter=count>\n7\n</"
      "parameter>\n<parameter=list>\n[1, "
      "\"a\"]\n</parameter>\n<parameter=other>\ntwo\nlines "
      "\"q\"\n</parameter>\n</function>\n</tool_call>";
  const boost::json::array schemas = boost::json::parse(kToolSchemas).as_array();
  const OutputParser::Options typed{.parse_tools = true, .tools = &schemas};
  expect_outcome(kXml, typed, text,
                 {"",
                  "",
                  {{"f",
                    "{\"code\": \"7\", \"count\": 7, \"list\": [1, \"a\"], \"other\": "
                    "\"two\\nlines \\\"q\\\"\"}"}}});
  expect_outcome(kXml, kTools, text,
                 {"",
                  "",
                  {{"f",
                    "{\"code\": 7, \"count\": 7, \"list\": [1, \"a\"], \"other\": \"two\\nlines "
                    "\\\"q\\\"\"}"}}});
  expect_outcome(kXml, kTools, "<tool_call>\n<function=g>\n</function>\n</tool_call>",
                 {"", "", {{"g", "{}"}}});
  expect_outcome(
      kXml, kTools,
      "<tool_call><function=g><parameter=a>x<parameter=b>y</parameter></function></tool_call>",
      {"", "", {{"g", "{\"a\": \"x\", \"b\": \"y\"}"}}});
}

TEST(OutputParser, KeyValueCalls) {
  const boost::json::array schemas = boost::json::parse(kToolSchemas).as_array();
  const OutputParser::Options typed{.parse_tools = true, .tools = &schemas};
  const std::string text =
      "Ok\n<tool_call>f\n<arg_key>code</arg_key>\n<arg_value>{\"a\": "
      "1}</arg_value>\n<arg_key>count</arg_key>\n<arg_value>2"
      "</arg_value>\n</tool_call>\n<tool_call>g</tool_call>";
  expect_outcome(kGlm, typed, text,
                 {"", "Ok", {{"f", "{\"code\": \"{\\\"a\\\": 1}\", \"count\": 2}"}, {"g", "{}"}}});
  expect_outcome(kGlm, kTools,
                 "<tool_call>h<arg_key>k</arg_key><arg_value>v w</arg_value></tool_call>",
                 {"", "", {{"h", "{\"k\": \"v w\"}"}}});
}

// Random mixtures of marks and text never crash, lose nothing when nothing is recognised, and do
// not depend on cuts.
TEST(OutputParser, RandomMixturesDoNotDependOnCuts) {
  const std::vector<std::string> parts = {"<think>",
                                          "</think>",
                                          "<tool_call>",
                                          "</tool_call>",
                                          "\n",
                                          " ",
                                          "text",
                                          "{\"name\":\"f\",\"arguments\":{}}",
                                          "{\"a\":\"",
                                          "\"}",
                                          "<function=f>",
                                          "<parameter=p>",
                                          "</parameter>",
                                          "</function>",
                                          "f<arg_key>k</arg_key>",
                                          "<arg_value>v</arg_value>",
                                          "<｜tool▁calls▁begin｜>",
                                          "<｜tool▁calls▁end｜>",
                                          "<｜tool▁call▁begin｜>",
                                          "<｜tool▁call▁end｜>",
                                          "f<｜tool▁sep｜>{}",
                                          "<|tool_calls_section_begin|>",
                                          "<|tool_calls_section_end|>",
                                          "<|tool_call_begin|>",
                                          "<|tool_call_end|>",
                                          "functions.f:0<|tool_call_argument_begin|>{}",
                                          "<",
                                          "\xff"};
  boost::json::parse_options any_bytes;
  any_bytes.allow_invalid_utf8 = true;
  std::mt19937 random(11);
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (unsigned i = random() % 12; i > 0; --i) text += parts[random() % parts.size()];
    const OutputFormat& format =
        std::vector{&kHermes, &kXml, &kGlm, &kDeepSeek, &kKimi}[random() % 5][0];
    const OutputParser::Options options{.starts_in_reasoning = random() % 2 == 0,
                                        .split_reasoning = random() % 3 != 0,
                                        .parse_tools = random() % 4 != 0};
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < text.size(); at += pieces.back().size())
      pieces.push_back(text.substr(at, 1 + random() % 6));
    const Outcome whole = parse(format, options, {text});
    ASSERT_EQ(parse(format, options, pieces), whole) << text;
    if (!options.split_reasoning && whole.calls.empty()) {
      ASSERT_EQ(whole.content, text);
    }
    for (const Call& call : whole.calls) {
      ASSERT_TRUE(boost::json::parse(call.arguments, {}, any_bytes).is_object()) << text;
    }
  }
}

TEST(OutputParser, IdsAreUnique) {
  const auto parser = OutputParser::create(kHermes, kTools);
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) {
    for (const auto& call : parser->push("<tool_call>{\"name\":\"f\"}</tool_call>").tool_calls) {
      EXPECT_EQ(call.index, i);
      for (const char byte : call.id.substr(5))
        EXPECT_TRUE(std::isalnum(static_cast<unsigned char>(byte)));
      ids.insert(call.id);
    }
  }
  EXPECT_EQ(ids.size(), 1000u);
}

TEST(OutputFormatDetection, PublishedTemplates) {
  struct Row {
    const char* file;
    const char* think;
    Tools tools;
  };
  for (const Row& row :
       {Row{"Qwen-Qwen3-0.6B", "<think>", Tools::kJsonInTags},
        Row{"Qwen-Qwen2.5-7B-Instruct", "", Tools::kJsonInTags},
        Row{"NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "", Tools::kJsonInTags},
        Row{"ibm-granite-granite-4.0", "", Tools::kJsonInTags},
        Row{"Qwen3-Coder", "", Tools::kXmlParameters},
        Row{"GLM-4.6", "<think>", Tools::kArgKeyValue},
        Row{"deepseek-ai-DeepSeek-V3.1", "<think>", Tools::kDeepSeek},
        Row{"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "<think>", Tools::kDeepSeek},
        Row{"Kimi-K2-Instruct", "", Tools::kKimi}, Row{"google-gemma-2-2b-it", "", Tools::kNone}}) {
    const std::string path =
        tandem::testing::golden_path(std::string("templates/") + row.file + ".json");
    if (path.empty()) GTEST_SKIP() << "no golden/templates beside the sources";
    const auto file = boost::json::parse(tandem::testing::read_file(path));
    const OutputFormat format = detect_format(file.at("template").as_string());
    EXPECT_EQ(format.think_open, row.think) << row.file;
    EXPECT_EQ(format.tools, row.tools) << row.file;
    EXPECT_EQ(format.tool_open.empty(), row.tools == Tools::kNone) << row.file;
  }
}

}  // namespace
}  // namespace tandem::chat
