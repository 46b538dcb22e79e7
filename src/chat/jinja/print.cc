// str() and repr(). Nesting is bounded because a template can make a list contain itself.
#include "chat/jinja/print.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "chat/jinja/operations.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

bool is_printable(char32_t value) {
  if (value < 0x20 || (value >= 0x7F && value <= 0xA0) || value == 0xAD) return false;
  if (value >= 0x2000 && value <= 0x200F) return false;
  if (value >= 0x2028 && value <= 0x202F) return false;
  if (value >= 0x205F && value <= 0x206F) return false;
  return value != 0x1680 && value != 0x3000 && value != 0xFEFF &&
         !(value >= 0xE000 && value <= 0xF8FF);
}

void print_quoted(std::string_view text, TextBuilder& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  out.append(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    const char32_t value = point.value;
    if (value == static_cast<char32_t>(quote) || value == '\\') {
      out.append(1, '\\').append(1, static_cast<char>(value));
    } else if (value == '\n') {
      out.append("\\n");
    } else if (value == '\r') {
      out.append("\\r");
    } else if (value == '\t') {
      out.append("\\t");
    } else if (is_printable(value)) {
      out.append(text.substr(at, point.size));
    } else if (value < 0x100) {
      out.append(fmt::format("\\x{:02x}", static_cast<unsigned>(value)));
    } else {
      out.append(fmt::format("\\u{:04x}", static_cast<unsigned>(value)));
    }
    at += point.size;
  }
  out.append(1, quote);
}

void print_nested(const Value& value, TextBuilder& out, int depth);

void print_items(const std::vector<Value>& items, TextBuilder& out, int depth) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) out.append(", ");
    first = false;
    print_nested(item, out, depth);
  }
}

void print_dict(const Dict& dict, TextBuilder& out, int depth) {
  out.append("{");
  bool first = true;
  for (const auto& [key, value] : dict.entries()) {
    if (!first) out.append(", ");
    first = false;
    print_nested(key, out, depth);
    out.append(": ");
    print_nested(value, out, depth);
  }
  out.append("}");
}

void print_sequence(const Sequence& sequence, TextBuilder& out, int depth) {
  const auto wrapped = [&](std::string_view open, std::string_view close) {
    out.append(open);
    print_items(sequence.items, out, depth);
    out.append(close);
  };
  switch (sequence.kind) {
    case SequenceKind::kList:
      return wrapped("[", "]");
    case SequenceKind::kTuple:
      return wrapped("(", sequence.items.size() == 1 ? ",)" : ")");
    case SequenceKind::kKeys:
      return wrapped("dict_keys([", "])");
    case SequenceKind::kValues:
      return wrapped("dict_values([", "])");
    case SequenceKind::kItems:
      return wrapped("dict_items([", "])");
    case SequenceKind::kIterator:
      out.append("<generator object>");
      return;
    case SequenceKind::kRange:
      break;
  }
  out.append("range(").append(integer_text(sequence.range_start));
  out.append(", ").append(integer_text(sequence.range_stop));
  if (sequence.range_step != 1) out.append(", ").append(integer_text(sequence.range_step));
  out.append(")");
}

void print_nested(const Value& value, TextBuilder& out, int depth) {
  if (depth > kMaxValueDepth) fail("value nested more than {} deep", kMaxValueDepth);
  if (const Text* text = std::get_if<Text>(&value)) {
    if (text->markup()) out.append("Markup(");
    print_quoted(text->view(), out);
    if (text->markup()) out.append(")");
  } else if (const auto* sequence = std::get_if<Sequence*>(&value)) {
    print_sequence(**sequence, out, depth + 1);
  } else if (const auto* dict = std::get_if<Dict*>(&value)) {
    print_dict(**dict, out, depth + 1);
  } else if (const auto* object = std::get_if<Namespace*>(&value)) {
    out.append("<Namespace ");
    print_dict(*(*object)->attributes, out, depth + 1);
    out.append(">");
  } else if (is<Undefined>(value)) {
    out.append("Undefined");
  } else {
    print(value, out);
  }
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40] = {};
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, static_cast<std::size_t>(end - buffer));

  const std::string_view sign = text.substr(0, text.front() == '-' ? 1 : 0);
  text.remove_prefix(sign.size());
  const std::size_t mark = text.find('e');
  const int exponent = std::atoi(text.data() + mark + 1);
  std::string digits(text.substr(0, mark));
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());

  const std::string_view all = digits;
  if (exponent < -4 || exponent >= 16) {
    const std::string_view point = all.size() > 1 ? "." : "";
    return fmt::format("{}{}{}{}e{}{:02}", sign, all.substr(0, 1), point, all.substr(1),
                       exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) return fmt::format("{}0.{:0>{}}{}", sign, "", -exponent - 1, all);
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (whole >= all.size()) return fmt::format("{}{:0<{}}.0", sign, all, whole);
  return fmt::format("{}{}.{}", sign, all.substr(0, whole), all.substr(whole));
}

std::string integer_text(Integer value) {
  __extension__ using Magnitude = unsigned __int128;
  Magnitude rest = value < 0 ? -static_cast<Magnitude>(value) : static_cast<Magnitude>(value);
  std::string out;
  do {
    out.push_back(static_cast<char>('0' + static_cast<int>(rest % 10)));
    rest /= 10;
  } while (rest != 0);
  if (value < 0) out.push_back('-');
  std::reverse(out.begin(), out.end());
  return out;
}

void print(const Value& value, TextBuilder& out) {
  if (const Text* text = std::get_if<Text>(&value)) {
    out.append(text->view());
  } else if (const Integer* integer = std::get_if<Integer>(&value)) {
    out.append(integer_text(*integer));
  } else if (const double* number = std::get_if<double>(&value)) {
    out.append(float_text(*number));
  } else if (const bool* flag = std::get_if<bool>(&value)) {
    out.append(*flag ? "True" : "False");
  } else if (is<None>(value)) {
    out.append("None");
  } else if (const auto* function = std::get_if<Function*>(&value)) {
    out.append("<function ").append((*function)->name).append(">");
  } else if (const auto* loop = std::get_if<Loop*>(&value)) {
    out.append(fmt::format("<LoopContext {}/{}>", (*loop)->index + 1, (*loop)->count));
  } else if (!is<Undefined>(value)) {
    print_nested(value, out, 0);
  }
}

void print_repr(const Value& value, TextBuilder& out) { print_nested(value, out, 0); }

std::string text_of(const Value& value, Meter& meter) {
  if (const Text* text = std::get_if<Text>(&value)) return std::string(text->view());
  TextBuilder out(meter);
  print(value, out);
  return out.take();
}

}  // namespace tandem::chat::jinja
