// UTF-8, one character at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::tokenizer {

struct Utf8Char {
  uint32_t code_point;  // when valid
  size_t length;  // bytes of the character; where invalid, those that form one ill-formed sequence
                  // (Unicode 3.9)
  bool valid;
  bool incomplete;  // invalid only because the text ends too early
};

// The first character of a text that is not empty.
Utf8Char next_utf8(std::string_view text);

std::string encode_utf8(uint32_t code_point);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace tandem::tokenizer
