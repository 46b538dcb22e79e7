// text.format(values): replacement fields {name.attribute[key]!conversion:specification}.
#include <algorithm>
#include <optional>
#include <string>

#include "chat/jinja/attributes.h"
#include "chat/jinja/format.h"
#include "chat/jinja/format_spec.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

FormatSpec parse_spec(std::string_view text) {
  FormatSpec spec;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (text.size() >= 2 && is_align(text[1])) {
    spec.fill = text[0];
    spec.align = text[1];
    at = 2;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[0];
    at = 1;
  }
  const auto next_is = [&](char c) { return at < text.size() && text[at] == c; };
  if (next_is('+') || next_is('-') || next_is(' ')) spec.sign = text[at++];
  if (next_is('#')) spec.alternate = true, ++at;
  if (next_is('0') && spec.align == 0) spec.fill = '0', spec.align = '=', ++at;
  spec.width = read_width(text, at);
  if (next_is(',') || next_is('_')) spec.grouping = text[at++];
  if (next_is('.')) {
    ++at;
    spec.precision = static_cast<int>(read_width(text, at));
  }
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size()) fail("invalid format specifier '{}'", text);
  return spec;
}

class BraceFormatter {
 public:
  BraceFormatter(const Text& format, const Arguments& arguments, Runtime& runtime)
      : markup_(format.markup()), arguments_(arguments), runtime_(runtime) {}

  void run(std::string_view format, TextBuilder& out, int depth) {
    if (depth > 2) fail("format fields nested too deep");
    for (std::size_t at = 0; at < format.size();) {
      const std::size_t brace = std::min(format.find_first_of("{}", at), format.size());
      out.append(format.substr(at, brace - at));
      at = brace;
      if (at == format.size()) break;
      if (at + 1 < format.size() && format[at + 1] == format[at]) {
        out.append(1, format[at]);
        at += 2;
      } else if (format[at] == '}') {
        fail("single '}}' encountered in format string");
      } else {
        const std::size_t close = closing_brace(format, at);
        field(format.substr(at + 1, close - at - 1), out, depth);
        at = close + 1;
      }
    }
  }

 private:
  static std::size_t closing_brace(std::string_view format, std::size_t open) {
    int depth = 0;
    for (std::size_t at = open; at < format.size(); ++at) {
      if (format[at] == '{') ++depth;
      if (format[at] == '}' && --depth == 0) return at;
    }
    fail("expected '}}' before end of string");
  }

  void field(std::string_view text, TextBuilder& out, int depth) {
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::size_t bang = std::min(text.substr(0, colon).find('!'), colon);
    const Value value = lookup(text.substr(0, bang));
    TextBuilder spec_text(runtime_.meter);
    if (colon < text.size()) run(text.substr(colon + 1), spec_text, depth + 1);
    FormatSpec spec = parse_spec(spec_text.view());
    if (bang < colon) {
      const std::string_view conversion = text.substr(bang + 1, colon - bang - 1);
      if (conversion != "r" && conversion != "s" && conversion != "a")
        fail("unknown conversion '{}'", conversion);
      TextBuilder shown(runtime_.meter);
      if (conversion == "s")
        print(value, shown);
      else
        print_repr(value, shown);
      return pad(shown.view(), spec, false, out);
    }
    present(value, spec, out);
  }

  void present(const Value& value, const FormatSpec& spec, TextBuilder& out) {
    const bool plain_flag = is<bool>(value) && spec.type == 0;
    if (is_number(value) && !plain_flag) {
      if (spec.type != 0 &&
          std::string_view("bcdoxXeEfFgGn%").find(spec.type) == std::string_view::npos) {
        fail("unknown format code '{}'", spec.type);
      }
      return format_number(value, spec, out);
    }
    if (spec.type != 0 && spec.type != 's')
      fail("unknown format code '{}' for '{}'", spec.type, type_name(value));
    TextBuilder shown(runtime_.meter);
    append_text(value, markup_, shown, runtime_.meter);
    std::string_view text = shown.view();
    if (spec.precision >= 0)
      text = text.substr(0, offset_of(text, static_cast<std::size_t>(spec.precision)));
    pad(text, spec, false, out);
  }

  Value lookup(std::string_view path) {
    const std::size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = argument(path.substr(0, end));
    for (std::size_t at = end; at < path.size();) {
      const bool bracket = path[at] == '[';
      const std::size_t stop = bracket ? path.find(']', at) : path.find_first_of(".[", at + 1);
      if (bracket && stop == std::string_view::npos) fail("missing ']' in format string");
      const std::size_t last = std::min(stop, path.size());
      const std::string_view key = path.substr(at + 1, last - at - 1);
      at = bracket ? last + 1 : last;
      value = bracket ? indexed(value, key) : attribute(value, key, nullptr, runtime_);
    }
    return value;
  }

  Value indexed(const Value& object, std::string_view key) {
    const bool digits = !key.empty() && key.size() < 10 &&
                        key.find_first_not_of("0123456789") == std::string_view::npos;
    const Value index =
        digits ? Value(Integer{std::stol(std::string(key))}) : runtime_.heap.text(key);
    const auto found = item(object, index, runtime_);
    if (!found) fail("format: no item '{}'", key);
    return *found;
  }

  Value argument(std::string_view name) {
    if (name.empty()) {
      require_numbering(true);
      return positional(next_++);
    }
    if (name.size() < 10 && name.find_first_not_of("0123456789") == std::string_view::npos) {
      require_numbering(false);
      return positional(static_cast<std::size_t>(std::stol(std::string(name))));
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    fail("format: no argument '{}'", name);
  }

  // Python refuses a format that mixes {} and {0}.
  void require_numbering(bool automatic) {
    if (automatic_ && *automatic_ != automatic) fail("format: cannot mix {{}} and {{0}}");
    automatic_ = automatic;
  }

  Value positional(std::size_t index) const {
    if (index < arguments_.positional.size()) return arguments_.positional[index];
    fail("format: argument {} is missing", index);
  }

  bool markup_;
  const Arguments& arguments_;
  Runtime& runtime_;
  std::size_t next_ = 0;
  std::optional<bool> automatic_;
};

}  // namespace

Value format_braces(const Text& format, const Arguments& arguments, Runtime& runtime) {
  TextBuilder out(runtime.meter);
  BraceFormatter(format, arguments, runtime).run(format.view(), out, 0);
  return runtime.heap.text(out.take(), format.markup());
}

}  // namespace tandem::chat::jinja
