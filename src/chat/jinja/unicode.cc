// Stepping through code points, white space, and text search.
#include "chat/jinja/unicode.h"

#include <string.h>  // memmem: linear time whatever the needle, unlike std::string_view::find

namespace tandem::chat::jinja {
namespace {

constexpr char32_t kStrayByte = 0x110000;

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// 0: no code point of several bytes begins with this one.
std::size_t sequence_length(unsigned char lead) {
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF5) return 4;
  return 0;
}

}  // namespace

CodePoint decode_multibyte(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const CodePoint stray{kStrayByte + lead, 1};
  const std::size_t size = sequence_length(lead);
  if (size == 0 || size > text.size() - at) return stray;
  char32_t value = lead & (0x7Fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if (!is_continuation(text[at + i])) return stray;
    value = (value << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
  }
  const bool overlong = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
  return overlong || value > 0x10FFFF ? stray : CodePoint{value, size};
}

CodePoint decode_before(std::string_view text, std::size_t end) {
  for (std::size_t size = 1; size <= 4 && size <= end; ++size) {
    if (is_continuation(text[end - size])) continue;
    const CodePoint point = decode(text, end - size);
    if (point.size == size) return point;
    break;
  }
  return {kStrayByte + static_cast<unsigned char>(text[end - 1]), 1};
}

void encode(char32_t value, std::string& out) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value >= kStrayByte) {
    put(value - kStrayByte);
  } else if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | (value >> 6));
    put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | (value >> 12));
    put(0x80 | ((value >> 6) & 0x3F));
    put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | (value >> 18));
    put(0x80 | ((value >> 12) & 0x3F));
    put(0x80 | ((value >> 6) & 0x3F));
    put(0x80 | (value & 0x3F));
  }
}

std::size_t count_characters(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++count) at += decode(text, at).size;
  return count;
}

std::size_t offset_of(std::string_view text, std::size_t nth) {
  std::size_t at = 0;
  for (; nth > 0 && at < text.size(); --nth) at += decode(text, at).size;
  return at;
}

bool is_space(char32_t value) {
  if (value < 0x80)
    return value == ' ' || (value >= 9 && value <= 13) || (value >= 0x1C && value <= 0x1F);
  return value == 0x85 || value == 0xA0 || value == 0x1680 ||
         (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 ||
         value == 0x202F || value == 0x205F || value == 0x3000;
}

std::string_view trim_left(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = decode(text, 0);
    if (!is_space(point.value)) break;
    text.remove_prefix(point.size);
  }
  return text;
}

std::string_view trim_right(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = decode_before(text, text.size());
    if (!is_space(point.value)) break;
    text.remove_suffix(point.size);
  }
  return text;
}

std::size_t find_text(std::string_view haystack, std::string_view needle, std::size_t from) {
  if (from > haystack.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found =
      memmem(haystack.data() + from, haystack.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - haystack.data());
}

}  // namespace tandem::chat::jinja
