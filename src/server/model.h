// What the server knows of the model it serves.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "chat/chat_template.h"
#include "chat/output_parser.h"
#include "tokenizer/tokenizer.h"

namespace tandem::server {

struct Model {
  std::string name;  // as answers call it
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const chat::ChatTemplate> chat_template;  // null: no chat
  std::string chat_template_error;                          // why there is none, for clients
  chat::OutputFormat output_format;
  int32_t context_length = 0;  // tokens a request may have
  int32_t vocab_size = 0;
  int64_t max_prompt_bytes = INT64_MAX;  // no more text can fit into the context
  std::time_t created = 0;
  int64_t file_bytes = 0;
};

// Whether a control token's text is (part of) a mark that the model's output is parsed by.
inline bool is_thinking_mark(const chat::OutputFormat& format, std::string_view text) {
  return !text.empty() && (text == format.think_open || text == format.think_close);
}
inline bool is_tool_mark(const chat::OutputFormat& format, std::string_view text) {
  if (text.empty() || format.tools == chat::OutputFormat::Tools::kNone) return false;
  // There are further marks between those that open and close a section.
  const bool inner = format.has_sections() && text.find("tool") != std::string_view::npos;
  return inner || format.tool_open.find(text) != std::string::npos ||
         format.tool_close.find(text) != std::string::npos;
}

}  // namespace tandem::server
