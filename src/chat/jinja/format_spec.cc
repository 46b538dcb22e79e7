// Numbers and padding as Python's format mini-language lays them out.
#include "chat/jinja/format_spec.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "chat/jinja/escape.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

std::string in_base(Integer value, unsigned base, bool upper) {
  if (base == 10) return integer_text(value).substr(value < 0 ? 1 : 0);
  __extension__ using Magnitude = unsigned __int128;
  auto rest = value < 0 ? -static_cast<Magnitude>(value) : static_cast<Magnitude>(value);
  const std::string_view digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out.push_back(digits[static_cast<std::size_t>(rest % base)]);
    rest /= base;
  } while (rest != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

std::string group(const std::string& digits, char separator) {
  const std::size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < whole; ++i) {
    if (i != 0 && (whole - i) % 3 == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out + digits.substr(whole);
}

std::string real_digits(double value, const FormatSpec& spec) {
  if (!std::isfinite(value)) {
    const bool upper = std::isupper(static_cast<unsigned char>(spec.type)) != 0;
    if (std::isnan(value)) return upper ? "NAN" : "nan";
    return upper ? "INF" : "inf";
  }
  if (spec.type == 0 && spec.precision < 0) return float_text(value);
  char conversion[] = "%.*f";
  const bool percent = spec.type == '%';
  conversion[3] = percent ? 'f' : spec.type == 0 ? 'g' : spec.type;
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  char buffer[1024];
  const int size =
      std::snprintf(buffer, sizeof buffer, conversion, precision, percent ? value * 100 : value);
  std::string out(
      buffer, static_cast<std::size_t>(std::clamp(size, 0, static_cast<int>(sizeof buffer) - 1)));
  if (spec.type == 0 && out.find_first_of(".en") == std::string::npos) out += ".0";
  return percent ? out + "%" : out;
}

std::string integer_digits(Integer value, const FormatSpec& spec) {
  std::string digits;
  const std::string prefix = spec.alternate ? std::string("0") + spec.type : "";
  switch (spec.type) {
    case 'x':
      return prefix + in_base(value, 16, false);
    case 'X':
      return prefix + in_base(value, 16, true);
    case 'o':
      return prefix + in_base(value, 8, false);
    case 'b':
      return prefix + in_base(value, 2, false);
    default:
      return in_base(value, 10, false);
  }
}

}  // namespace

std::size_t read_width(std::string_view format, std::size_t& at) {
  std::size_t width = 0;
  for (; at < format.size() && std::isdigit(static_cast<unsigned char>(format[at])); ++at) {
    width = width * 10 + static_cast<std::size_t>(format[at] - '0');
    if (width > kMaxFormatWidth) fail("format width above {}", kMaxFormatWidth);
  }
  return width;
}

void format_number(const Value& value, const FormatSpec& spec, TextBuilder& out) {
  const bool real_type =
      spec.type != 0 && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  const bool real = real_type || is<double>(value);
  if (is<double>(value) && spec.type != 0 && !real_type) {
    fail("format code '{}' does not fit a float", spec.type);
  }
  if (spec.precision > kMaxFormatPrecision) fail("format precision above {}", kMaxFormatPrecision);
  if (spec.type == 'c') {
    const Integer code = as_integer(value).value_or(-1);
    if (code < 0 || code > 0x10FFFF) fail("%c needs a character code");
    std::string character;
    encode(static_cast<char32_t>(code), character);
    return pad(character, spec, false, out);
  }
  const bool negative = real ? std::signbit(to_double(value)) : *as_integer(value) < 0;
  std::string digits = real ? real_digits(std::fabs(to_double(value)), spec)
                            : integer_digits(*as_integer(value), spec);
  if (spec.grouping != 0) digits = group(digits, spec.grouping);
  std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  pad(sign + digits, spec, true, out);
}

void append_text(const Value& value, bool into_markup, TextBuilder& out, Meter& meter) {
  const Text* text = std::get_if<Text>(&value);
  if (into_markup && !(text != nullptr && text->markup())) {
    escape_html(text_of(value, meter), out);
  } else {
    print(value, out);
  }
}

void pad(std::string_view text, const FormatSpec& spec, bool numeric, TextBuilder& out) {
  const std::size_t size = count_characters(text);
  const std::size_t missing = spec.width > size ? spec.width - size : 0;
  const char align = spec.align != 0 ? spec.align : numeric ? '>' : '<';
  if (align == '=' && numeric) {
    const std::size_t sign =
        !text.empty() && std::string_view("+- ").find(text[0]) != std::string_view::npos ? 1 : 0;
    out.append(text.substr(0, sign)).append(missing, spec.fill).append(text.substr(sign));
    return;
  }
  const std::size_t before = align == '<' || align == '=' ? 0
                             : align == '^'               ? missing / 2
                                                          : missing;
  out.append(before, spec.fill).append(text).append(missing - before, spec.fill);
}

}  // namespace tandem::chat::jinja
