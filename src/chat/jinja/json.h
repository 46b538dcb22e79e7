// JSON in and out of template values; out exactly as Python's json.dumps writes it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

Value from_json(const boost::json::value& value, Runtime& runtime);
Value parse_json(std::string_view text, Runtime& runtime);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // absent: all on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
void dump_json(const Value& value, const JsonStyle& style, TextBuilder& out, Meter& meter);

}  // namespace tandem::chat::jinja
