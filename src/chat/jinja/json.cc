// Conversion from Boost.JSON and a dumper with the spelling of Python's json.dumps.
#include "chat/jinja/json.h"

#include <algorithm>
#include <cmath>

#include <boost/json/parse.hpp>

#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

constexpr std::size_t kMaxJsonDepth = 256;

Value convert(const boost::json::value& value, Runtime& runtime, int depth) {
  if (depth > kMaxValueDepth) fail("value nested more than {} deep", kMaxValueDepth);
  switch (value.kind()) {
    case boost::json::kind::null:
      return None{};
    case boost::json::kind::bool_:
      return value.get_bool();
    case boost::json::kind::int64:
      return Integer{value.get_int64()};
    case boost::json::kind::uint64:
      return Integer{value.get_uint64()};
    case boost::json::kind::double_:
      return value.get_double();
    case boost::json::kind::string: {
      const boost::json::string& text = value.get_string();
      return runtime.heap.text(std::string_view(text.data(), text.size()));
    }
    case boost::json::kind::array:
      break;
    case boost::json::kind::object: {
      Dict* dict = runtime.heap.dict();
      for (const auto& member : value.get_object()) {
        runtime.meter.step();
        Value key = runtime.heap.text(std::string_view(member.key().data(), member.key().size()));
        dict->append(std::move(key), convert(member.value(), runtime, depth + 1));
      }
      return dict;
    }
  }
  std::vector<Value> items;
  items.reserve(value.get_array().size());
  for (const auto& item : value.get_array()) {
    runtime.meter.step();
    items.push_back(convert(item, runtime, depth + 1));
  }
  return runtime.heap.list(std::move(items));
}

class Dumper {
 public:
  Dumper(const JsonStyle& style, TextBuilder& out, Meter& meter)
      : style_(style), out_(out), meter_(meter) {}

  void dump(const Value& value, int depth) {
    meter_.step();
    if (depth > kMaxValueDepth) fail("tojson: value nested more than {} deep", kMaxValueDepth);
    if (const Text* text = std::get_if<Text>(&value)) {
      dump_text(text->view());
    } else if (const auto* dict = std::get_if<Dict*>(&value)) {
      dump_dict(**dict, depth);
    } else if (const auto* sequence = std::get_if<Sequence*>(&value);
               sequence != nullptr && is_array(**sequence)) {
      dump_array((*sequence)->items, depth);
    } else if (is<None>(value)) {
      out_.append("null");
    } else if (is_number(value)) {
      out_.append(number_text(value));
    } else {
      fail("Object of type {} is not JSON serializable", type_name(value));
    }
  }

 private:
  static bool is_array(const Sequence& sequence) {
    return sequence.kind == SequenceKind::kList || sequence.kind == SequenceKind::kTuple;
  }

  static std::string number_text(const Value& value) {
    if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
    if (const Integer* integer = std::get_if<Integer>(&value)) return integer_text(*integer);
    const double number = std::get<double>(value);
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return float_text(number);
  }

  void new_line(int depth) {
    if (!style_.indent) return;
    out_.append("\n");
    for (int i = 0; i < depth; ++i) out_.append(*style_.indent);
  }

  void dump_array(const std::vector<Value>& items, int depth) {
    if (items.empty()) {
      out_.append("[]");
      return;
    }
    out_.append("[");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i != 0) out_.append(style_.item_separator);
      new_line(depth + 1);
      dump(items[i], depth + 1);
    }
    new_line(depth);
    out_.append("]");
  }

  void dump_key(const Value& key) {
    if (const Text* text = std::get_if<Text>(&key)) {
      dump_text(text->view());
    } else if (is_number(key) || is<None>(key)) {
      out_.append("\"").append(is<None>(key) ? "null" : number_text(key)).append("\"");
    } else {
      fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void dump_dict(const Dict& dict, int depth) {
    if (dict.size() == 0) {
      out_.append("{}");
      return;
    }
    std::vector<const Dict::Entry*> entries;
    entries.reserve(dict.size());
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return less(a->first, b->first, meter_);
      });
    }
    out_.append("{");
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i != 0) out_.append(style_.item_separator);
      new_line(depth + 1);
      dump_key(entries[i]->first);
      out_.append(style_.key_separator);
      dump(entries[i]->second, depth + 1);
    }
    new_line(depth);
    out_.append("}");
  }

  void dump_text(std::string_view text) {
    out_.append("\"");
    std::size_t plain = 0;  // start of what needs no escape
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint point = decode(text, at);
      const std::string escaped = escape(point.value);
      if (!escaped.empty()) {
        out_.append(text.substr(plain, at - plain)).append(escaped);
        plain = at + point.size;
      }
      at += point.size;
    }
    out_.append(text.substr(plain)).append("\"");
  }

  // Empty: stands for itself.
  std::string escape(char32_t value) const {
    switch (value) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    const auto code = [](char32_t unit) {
      return fmt::format("\\u{:04x}", static_cast<unsigned>(unit));
    };
    if (value < 0x20) return code(value);
    if (value < 0x7F || !style_.ensure_ascii || value > 0x10FFFF) return {};
    if (value < 0x10000) return code(value);
    const char32_t rest = value - 0x10000;
    return code(0xD800 + (rest >> 10)) + code(0xDC00 + (rest & 0x3FF));
  }

  const JsonStyle& style_;
  TextBuilder& out_;
  Meter& meter_;
};

}  // namespace

Value from_json(const boost::json::value& value, Runtime& runtime) {
  return convert(value, runtime, 0);
}

Value parse_json(std::string_view text, Runtime& runtime) {
  boost::json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  options.allow_invalid_utf8 = true;  // shielded text carries stray bytes
  boost::system::error_code error;
  runtime.meter.take(text.size() * 4);  // the parsed tree
  const boost::json::value parsed =
      boost::json::parse({text.data(), text.size()}, error, {}, options);
  if (error) fail("from_json: not valid JSON ({})", error.message());
  Value value = from_json(parsed, runtime);
  runtime.meter.give_back(text.size() * 4);
  return value;
}

void dump_json(const Value& value, const JsonStyle& style, TextBuilder& out, Meter& meter) {
  Dumper(style, out, meter).dump(value, 0);
}

}  // namespace tandem::chat::jinja
