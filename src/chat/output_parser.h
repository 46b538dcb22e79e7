// A model's output text -> reasoning, content and tool calls, incrementally. Text that cannot be
// parsed as a tool call stays content: model output never becomes an error.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/fwd.hpp>

#include "chat/chat_template.h"

namespace tandem::chat {

// How a model marks thinking and tool calls; found from its template.
struct OutputFormat {
  std::string think_open;   // "<think>", empty: the model does not think aloud
  std::string think_close;  // "</think>"
  enum class Tools { kNone, kJsonInTags, kDeepSeek, kKimi, kXmlParameters, kArgKeyValue };
  Tools tools = Tools::kNone;
  std::string tool_open;   // e.g. "<tool_call>"
  std::string tool_close;  // e.g. "</tool_call>"

  // Whether the marks enclose a section of calls, each with marks of its own.
  bool has_sections() const { return tools == Tools::kDeepSeek || tools == Tools::kKimi; }
};
OutputFormat detect_format(std::string_view template_source);

struct OutputDelta {
  std::string reasoning;
  std::string content;
  struct ToolCall {
    int index;              // rises from 0
    std::string id;         // set in a call's first delta
    std::string name;       // set in a call's first delta
    std::string arguments;  // pieces concatenate to JSON
  };
  std::vector<ToolCall> tool_calls;
};

class OutputParser {
 public:
  struct Options {
    bool starts_in_reasoning = false;  // the prompt already opened the thinking block
    bool split_reasoning = true;       // false: thinking stays in content, tags and all
    bool parse_tools = false;
    // The request's tools, read at create: the XML and key-value formats need the schema to tell 7
    // from "7".
    const boost::json::array* tools = nullptr;
  };
  static std::unique_ptr<OutputParser> create(const OutputFormat& format, const Options& options);
  virtual ~OutputParser() = default;

  // text: newly generated visible text in which control tokens keep their spelling where the format
  // needs them.
  virtual OutputDelta push(std::string_view text) = 0;
  virtual OutputDelta finish() = 0;
};

}  // namespace tandem::chat
