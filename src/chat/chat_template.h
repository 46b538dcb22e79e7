// A model's chat template: Jinja as Hugging Face sets it up (trim_blocks, lstrip_blocks,
// loopcontrols, generation blocks, tojson without HTML escapes, raise_exception, strftime_now),
// rendered byte for byte as Python would. Steps, output and recursion are bounded: a hostile
// template ends in a Failure.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace tandem::chat {

class ChatTemplate {
 public:
  // Failure: a syntax error, naming line and construct.
  static Result<std::shared_ptr<const ChatTemplate>> parse(std::string source);
  virtual ~ChatTemplate() = default;

  // context: messages, tools, add_generation_prompt, bos_token, eos_token, enable_thinking and
  // whatever chat_template_kwargs bring. now: what strftime_now formats, as local time.
  virtual Result<std::string> render(const boost::json::object& context,
                                     const std::tm& now) const = 0;
  virtual const std::string& source() const = 0;
};

}  // namespace tandem::chat
