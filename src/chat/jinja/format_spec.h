// Layout of one formatted value: sign, precision, padding. Shared by % and str.format.
#pragma once

#include <string>
#include <string_view>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

struct FormatSpec {
  char fill = ' ';
  char align = 0;  // '<', '>', '^', '=' (pad after the sign); 0: by type
  char sign = '-';
  bool alternate = false;
  char grouping = 0;  // ',' or '_'
  std::size_t width = 0;
  int precision = -1;
  char type = 0;
};

constexpr std::size_t kMaxFormatWidth = 1 << 20;
constexpr int kMaxFormatPrecision = 400;

// Digits of a format with a bound, advancing `at`.
std::size_t read_width(std::string_view format, std::size_t& at);

// Types d i u x X o b c e E f F g G %, or 0 for str().
void format_number(const Value& value, const FormatSpec& spec, TextBuilder& out);
// str(value), escaped where it goes into markup and is none.
void append_text(const Value& value, bool into_markup, TextBuilder& out, Meter& meter);
// numeric: right-aligned by default, and '=' pads between sign and digits.
void pad(std::string_view text, const FormatSpec& spec, bool numeric, TextBuilder& out);

}  // namespace tandem::chat::jinja
