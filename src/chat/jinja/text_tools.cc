// Stripping, replacing, line splitting, and number parsing with Python's rules.
#include "chat/jinja/text_tools.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

bool has_character(std::string_view set, char32_t value) {
  for (std::size_t at = 0; at < set.size();) {
    const CodePoint point = decode(set, at);
    if (point.value == value) return true;
    at += point.size;
  }
  return false;
}

bool is_line_end(char32_t value) {
  return (value >= 0x0A && value <= 0x0D) || (value >= 0x1C && value <= 0x1E) || value == 0x85 ||
         value == 0x2028 || value == 0x2029;
}

int digit_value(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  if (byte >= 'a' && byte <= 'z') return byte - 'a' + 10;
  if (byte >= 'A' && byte <= 'Z') return byte - 'A' + 10;
  return 99;
}

// Digits without their separators; nothing where an underscore is not between two digits.
std::optional<std::string> without_underscores(std::string_view digits) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] != '_') {
      out.push_back(digits[i]);
      continue;
    }
    const bool between = i > 0 && i + 1 < digits.size() && digit_value(digits[i - 1]) < 36 &&
                         digit_value(digits[i + 1]) < 36;
    if (!between) return std::nullopt;
  }
  return out;
}

bool any_cased(std::string_view text, bool (*wanted)(char32_t), bool (*unwanted)(char32_t)) {
  bool found = false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    if (unwanted(point.value)) return false;
    found = found || wanted(point.value);
    at += point.size;
  }
  return found;
}

}  // namespace

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars) {
  const auto removable = [&](char32_t value) {
    return chars ? has_character(*chars, value) : is_space(value);
  };
  while (side != Side::kRight && !text.empty()) {
    const CodePoint point = decode(text, 0);
    if (!removable(point.value)) break;
    text.remove_prefix(point.size);
  }
  while (side != Side::kLeft && !text.empty()) {
    const CodePoint point = decode_before(text, text.size());
    if (!removable(point.value)) break;
    text.remove_suffix(point.size);
  }
  return text;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    Integer limit, Meter& meter) {
  TextBuilder out(meter);
  std::size_t at = 0;
  for (; limit != 0; --limit) {
    meter.step();
    if (from.empty()) {
      out.append(to);
      if (at == text.size()) break;
      const std::size_t size = decode(text, at).size;
      out.append(text.substr(at, size));
      at += size;
      continue;
    }
    const std::size_t found = find_text(text, from, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(to);
    at = found + from.size();
  }
  out.append(text.substr(at));
  return out.take();
}

std::string title_case(std::string_view character) {
  return character == "ß" ? "Ss" : to_upper(character);
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const std::size_t first = decode(text, 0).size;
  return title_case(text.substr(0, first)) + to_lower(text.substr(first));
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    std::size_t next = at + point.size;
    if (is_line_end(point.value)) {
      if (point.value == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.push_back(text.substr(start, (keep_ends ? next : at) - start));
      start = next;
    }
    at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

bool is_lower_text(std::string_view text) { return any_cased(text, is_lower, is_upper); }
bool is_upper_text(std::string_view text) { return any_cased(text, is_upper, is_lower); }

bool is_letter(char32_t value) {
  if (value < 0x80) return (value | 0x20) >= 'a' && (value | 0x20) <= 'z';
  if (value < 0xC0) return value == 0xAA || value == 0xB5 || value == 0xBA;
  if (value == 0xD7 || value == 0xF7 || value > 0x10FFFF || is_space(value)) return false;
  return !(value >= 0x2000 && value <= 0x2BFF) && !(value >= 0x3000 && value <= 0x3004) &&
         !(value >= 0x3008 && value <= 0x3020) && !(value >= 0xFF01 && value <= 0xFF20) &&
         value < 0x1F000;
}

std::optional<Integer> parse_integer(std::string_view text, int base) {
  text = strip(text, Side::kBoth, std::nullopt);
  const bool negative = !text.empty() && text[0] == '-';
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  const auto prefix_base = [&]() {
    if (text.size() < 3 || text[0] != '0') return 0;
    const char letter = static_cast<char>(text[1] | 0x20);
    return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  }();
  if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
    base = prefix_base;
    text.remove_prefix(text[2] == '_' ? 3 : 2);
  } else if (base == 0) {
    base = 10;
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
      return std::nullopt;
  }
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || base < 2 || base > 36) return std::nullopt;
  Integer value = 0;
  for (const char digit : *digits) {
    if (digit_value(digit) >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_add_overflow(value, digit_value(digit), &value)) {
      fail("integer overflow");
    }
  }
  return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::kBoth, std::nullopt);
  const auto digits = without_underscores(text);
  if (!digits || digits->empty()) return std::nullopt;
  const std::string lower = to_lower(*digits);
  const std::size_t sign = lower[0] == '-' || lower[0] == '+' ? 1 : 0;
  const std::string_view rest = std::string_view(lower).substr(sign);
  const double factor = lower[0] == '-' ? -1 : 1;
  if (rest == "inf" || rest == "infinity") return factor * HUGE_VAL;
  if (rest == "nan") return std::nan("");
  if (rest.empty() || !(is_digit(static_cast<unsigned char>(rest[0])) || rest[0] == '.'))
    return std::nullopt;
  double value = 0;
  const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (result.ptr != rest.data() + rest.size()) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range)
    value = std::strtod(std::string(rest).c_str(), nullptr);
  else if (result.ec != std::errc{})
    return std::nullopt;
  return factor * value;
}

}  // namespace tandem::chat::jinja
