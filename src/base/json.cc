// The one place that knows how Boost.JSON parses and how numbers are written.
#include "base/json.h"

#include <charconv>
#include <cmath>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace tandem {
namespace {

namespace json = boost::json;

void append_double(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
  // 3.0 stays a float for readers that care.
  if (std::string_view(digits, static_cast<size_t>(end - digits)).find_first_of(".e") ==
      std::string_view::npos) {
    out += ".0";
  }
}

void append_text(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

}  // namespace

Result<json::value> parse_json(std::string_view text) {
  json::parse_options options;
  options.max_depth = 256;
  json::stream_parser parser({}, options);
  boost::system::error_code error;
  const size_t read = parser.write_some(text.data(), text.size(), error);
  if (!error && read < text.size()) error = json::error::extra_data;
  if (!error) parser.finish(error);
  if (error) {
    return Failure{.message = fmt::format("invalid JSON at byte {}: {}", read, error.message()),
                   .param = {},
                   .code = "invalid_json"};
  }
  return parser.release();
}

void append_json(const json::value& value, std::string& out) {
  switch (value.kind()) {
    case json::kind::null:
      out += "null";
      break;
    case json::kind::bool_:
      out += value.get_bool() ? "true" : "false";
      break;
    case json::kind::int64:
      out += std::to_string(value.get_int64());
      break;
    case json::kind::uint64:
      out += std::to_string(value.get_uint64());
      break;
    case json::kind::double_:
      append_double(value.get_double(), out);
      break;
    case json::kind::string:
      append_text(value.get_string(), out);
      break;
    case json::kind::array: {
      out += '[';
      bool first = true;
      for (const json::value& item : value.get_array()) {
        if (!first) out += ',';
        first = false;
        append_json(item, out);
      }
      out += ']';
      break;
    }
    case json::kind::object: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : value.get_object()) {
        if (!first) out += ',';
        first = false;
        append_text(key, out);
        out += ':';
        append_json(item, out);
      }
      out += '}';
      break;
    }
  }
}

std::string to_string(const json::value& value) {
  std::string out;
  append_json(value, out);
  return out;
}

}  // namespace tandem
