// Filters that make text or numbers out of one value.
#include <cmath>
#include <cstdio>

#include "chat/jinja/escape.h"
#include "chat/jinja/format.h"
#include "chat/jinja/functions.h"
#include "chat/jinja/json.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/text_tools.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

// Markup stays markup through the text filters.
bool is_markup(const Value& value) {
  const Text* text = std::get_if<Text>(&value);
  return text != nullptr && text->markup();
}

Value upper(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.text(to_upper(text_of(self, runtime.meter)), is_markup(self));
}

Value lower(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.text(to_lower(text_of(self, runtime.meter)), is_markup(self));
}

Value capitalized(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.text(capitalize(text_of(self, runtime.meter)), is_markup(self));
}

// Words begin after white space and after any of - ( { [ <
Value title(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const std::string text = text_of(self, runtime.meter);
  std::string out;
  bool begins = true;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    const std::string_view character = std::string_view(text).substr(at, point.size);
    out += begins ? to_upper(character) : to_lower(character);
    begins = is_space(point.value) ||
             std::u32string_view(U"-({[<").find(point.value) != std::u32string_view::npos;
    at += point.size;
  }
  return runtime.heap.text(std::move(out), is_markup(self));
}

Value trim(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [chars] = bind(arguments, {"chars"});
  std::optional<std::string_view> set;
  if (chars != nullptr && !is<None>(*chars)) set = text_argument(chars, "");
  const std::string text = text_of(self, runtime.meter);
  if (set) runtime.meter.step(text.size() / 64 * (1 + set->size() / 16));
  return runtime.heap.text(strip(text, Side::kBoth, set), is_markup(self));
}

Value string(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (is<Text>(self)) return self;
  return runtime.heap.text(text_of(self, runtime.meter));
}

Value safe(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.text(text_of(self, runtime.meter), true);
}

Value escape(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (is_markup(self)) return self;
  TextBuilder out(runtime.meter);
  escape_html(text_of(self, runtime.meter), out);
  return runtime.heap.text(out.take(), true);
}

Value replaced(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [from, to, limit] = bind(arguments, {"old", "new", "count"}, 2);
  const std::string text = text_of(self, runtime.meter);
  return runtime.heap.text(replace(text, text_of(*from, runtime.meter), text_of(*to, runtime.meter),
                                   integer_argument(limit, -1), runtime.meter));
}

Value indent(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [width, first, blank] = bind(arguments, {"width", "first", "blank"});
  TextBuilder margin(runtime.meter);
  if (width != nullptr && is<Text>(*width)) {
    margin.append(std::get<Text>(*width).view());
  } else {
    const Integer spaces = integer_argument(width, 4);
    if (spaces > 0)
      margin.append(static_cast<std::size_t>(std::min<Integer>(spaces, kMaxTextBytes + 1)), ' ');
  }
  if (!is<Text>(self)) fail("a string is required, not {}", type_name(self));
  const std::string text = text_of(self, runtime.meter) + "\n";
  TextBuilder out(runtime.meter);
  bool is_first = true;
  for (const std::string_view line : split_lines(text)) {
    runtime.meter.step();
    if (!is_first) out.append("\n");
    const bool indented =
        is_first ? flag_argument(first, false) : flag_argument(blank, false) || !line.empty();
    if (indented) out.append(margin.view());
    out.append(line);
    is_first = false;
  }
  return runtime.heap.text(out.take(), is_markup(self));
}

Value formatted(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    fail("format: positional and keyword arguments do not mix");
  }
  const std::string text = text_of(self, runtime.meter);
  if (arguments.named.empty())
    return format_percent(Text(text, is_markup(self)), arguments, nullptr, runtime);
  Dict* mapping = runtime.heap.dict();
  for (const auto& [name, value] : arguments.named) mapping->set(runtime.heap.text(name), value);
  return format_percent(Text(text, is_markup(self)), arguments, mapping, runtime);
}

Value wordcount(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const std::string text = text_of(self, runtime.meter);
  Integer words = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    const bool letter = is_letter(point.value) || is_digit(point.value) || point.value == '_';
    words += letter && !inside ? 1 : 0;
    inside = letter;
    at += point.size;
  }
  return words;
}

std::optional<Integer> whole_part(double value) {
  if (!(std::fabs(value) < 1e38)) return std::nullopt;
  return static_cast<Integer>(std::trunc(value));
}

Value to_int(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [fallback, base] = bind(arguments, {"default", "base"});
  const Value otherwise = fallback == nullptr ? Value(Integer{0}) : *fallback;
  if (const auto integer = as_integer(self)) return *integer;
  if (is<Undefined>(self)) fail("int: the value is undefined");
  std::optional<Integer> result;
  if (const Text* text = std::get_if<Text>(&self)) {
    const Integer radix = integer_argument(base, 10);
    if (radix >= 0 && radix <= 36) result = parse_integer(text->view(), static_cast<int>(radix));
    if (!result) {
      if (const auto number = parse_float(text->view())) result = whole_part(*number);
    }
  } else if (const double* number = std::get_if<double>(&self)) {
    result = whole_part(*number);
  }
  return result ? Value(*result) : otherwise;
}

Value to_float(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [fallback] = bind(arguments, {"default"});
  if (is_number(self)) return to_double(self);
  if (is<Undefined>(self)) fail("float: the value is undefined");
  if (const Text* text = std::get_if<Text>(&self)) {
    if (const auto number = parse_float(text->view())) return *number;
  }
  return fallback == nullptr ? Value(0.0) : *fallback;
}

Value absolute(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (const auto integer = as_integer(self)) return *integer < 0 ? negate(self) : Value(*integer);
  if (!is<double>(self)) fail("bad operand type for abs(): '{}'", type_name(self));
  return std::fabs(std::get<double>(self));
}

// printf rounds the exact binary value half to even, as Python's round() does.
double round_to(double value, int places) {
  if (!std::isfinite(value)) return value;
  if (places < 0) {
    const double scale = std::pow(10.0, -places);
    return std::nearbyint(value / scale) * scale;
  }
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, "%.*f", std::min(places, 100), value);
  return std::strtod(buffer, nullptr);
}

// Half to even, on the tens, hundreds, … that negative places mean.
Integer round_integer(Integer value, int places) {
  if (places >= 0) return value;
  if (places < -37) return 0;
  Integer unit = 1;
  for (int i = 0; i < -places; ++i) unit *= 10;
  const Integer rest = value % unit, whole = value - rest;
  const Integer twice = rest < 0 ? -rest - (unit + rest) : rest - (unit - rest);  // 2·|rest| - unit
  const bool away = twice > 0 || (twice == 0 && (whole / unit) % 2 != 0);
  return away ? checked_add(whole, rest < 0 ? -unit : unit) : whole;
}

Value round(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [precision, method] = bind(arguments, {"precision", "method"});
  const Integer wanted = integer_argument(precision, 0);
  const std::string_view how = text_argument(method, "common");
  if (!is_number(self)) fail("round: a number is required, not {}", type_name(self));
  if (wanted < -300 || wanted > 300) fail("round: precision out of range");
  const int places = static_cast<int>(wanted);
  if (how == "common") {
    if (const auto integer = as_integer(self)) return round_integer(*integer, places);
    return round_to(to_double(self), places);
  }
  if (how != "ceil" && how != "floor") fail("round: method must be common, ceil or floor");
  const double scale = std::pow(10.0, places);
  const double scaled = to_double(self) * scale;
  return (how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value tojson(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [ensure_ascii, indent_width, separators, sort_keys] =
      bind(arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = flag_argument(ensure_ascii, false);
  style.sort_keys = flag_argument(sort_keys, false);
  if (indent_width != nullptr && !is<None>(*indent_width)) {
    style.item_separator.assign(1, ',');
    if (const Text* text = std::get_if<Text>(indent_width)) {
      style.indent = std::string(text->view());
    } else {
      const Integer spaces = integer_argument(indent_width, 0);
      if (spaces > 1024) fail("tojson: indent above 1024");
      style.indent = std::string(spaces > 0 ? static_cast<std::size_t>(spaces) : 0, ' ');
    }
  }
  if (separators != nullptr && !is<None>(*separators)) {
    const std::vector<Value> pair = iterate(*separators, runtime);
    if (pair.size() != 2) fail("tojson: separators must be a pair");
    style.item_separator = text_argument(&pair[0], ", ");
    style.key_separator = text_argument(&pair[1], ": ");
  }
  TextBuilder out(runtime.meter);
  dump_json(self, style, out, runtime.meter);
  return runtime.heap.text(out.take());
}

Value fromjson(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return parse_json(text_argument(&self, ""), runtime);
}

constexpr NativeEntry kFilters[] = {
    {"abs", absolute},       {"capitalize", capitalized},
    {"e", escape},           {"escape", escape},
    {"float", to_float},     {"format", formatted},
    {"from_json", fromjson}, {"fromjson", fromjson},
    {"indent", indent},      {"int", to_int},
    {"lower", lower},        {"replace", replaced},
    {"round", round},        {"safe", safe},
    {"string", string},      {"title", title},
    {"tojson", tojson},      {"trim", trim},
    {"upper", upper},        {"wordcount", wordcount},
};

}  // namespace

Native find_text_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace tandem::chat::jinja
