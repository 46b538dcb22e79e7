// Code points of text that normally is UTF-8: stepping, counting, white space, letter case. A byte
// that belongs to no code point counts as one character, equal only to itself, and survives every
// operation.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tandem::chat::jinja {

struct CodePoint {
  char32_t value;    // above 0x10FFFF: a stray byte
  std::size_t size;  // bytes it takes
};

// at < text.size()
CodePoint decode_multibyte(std::string_view text, std::size_t at);
inline CodePoint decode(std::string_view text, std::size_t at) {  // at < text.size()
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 0x80 ? CodePoint{byte, 1} : decode_multibyte(text, at);
}
CodePoint decode_before(std::string_view text, std::size_t end);  // 0 < end
void encode(char32_t value, std::string& out);
std::size_t count_characters(std::string_view text);

// Byte position of the nth character; text.size() when there are fewer.
std::size_t offset_of(std::string_view text, std::size_t nth);

bool is_space(char32_t value);  // Python's str.isspace and re's \s
std::string_view trim_left(std::string_view text);
std::string_view trim_right(std::string_view text);

// Simple case mappings of the Unicode letters that have two cases; sharp s upper-cases to SS.
char32_t to_lower(char32_t value);
char32_t to_upper(char32_t value);
bool is_lower(char32_t value);
bool is_upper(char32_t value);
std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);

// Linear-time search; npos when absent.
std::size_t find_text(std::string_view haystack, std::string_view needle, std::size_t from = 0);

}  // namespace tandem::chat::jinja
