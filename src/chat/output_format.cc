// The marks of a model's output, recognised by their spelling in its template.
#include <array>

#include "chat/output_parser.h"

namespace tandem::chat {
namespace {

struct Tags {
  std::string_view open, close;
};

constexpr std::array<Tags, 3> kThinking = {{
    {"<think>", "</think>"},
    {"<seed:think>", "</seed:think>"},
    {"[THINK]", "[/THINK]"},
}};

constexpr Tags kDeepSeekCalls = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"};
constexpr Tags kKimiCalls = {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"};
constexpr Tags kToolCall = {"<tool_call>", "</tool_call>"};
constexpr Tags kSeedToolCall = {"<seed:tool_call>", "</seed:tool_call>"};

}  // namespace

OutputFormat detect_format(std::string_view source) {
  const auto mentions = [source](std::string_view text) {
    return source.find(text) != std::string_view::npos;
  };
  OutputFormat format;
  for (const Tags& tags : kThinking) {
    if (!mentions(tags.close)) continue;
    format.think_open = tags.open;
    format.think_close = tags.close;
    break;
  }
  const auto use = [&format](OutputFormat::Tools tools, const Tags& tags) {
    format.tools = tools;
    format.tool_open = tags.open;
    format.tool_close = tags.close;
  };
  const Tags& tool_call = mentions(kSeedToolCall.open) ? kSeedToolCall : kToolCall;
  if (mentions(kDeepSeekCalls.open)) {
    use(OutputFormat::Tools::kDeepSeek, kDeepSeekCalls);
  } else if (mentions(kKimiCalls.open)) {
    use(OutputFormat::Tools::kKimi, kKimiCalls);
  } else if (!mentions(tool_call.open)) {
    format.tools = OutputFormat::Tools::kNone;
  } else if (mentions("<arg_key>")) {
    use(OutputFormat::Tools::kArgKeyValue, tool_call);
  } else if (mentions("<parameter=")) {
    use(OutputFormat::Tools::kXmlParameters, tool_call);
  } else {
    use(OutputFormat::Tools::kJsonInTags, tool_call);
  }
  return format;
}

}  // namespace tandem::chat
