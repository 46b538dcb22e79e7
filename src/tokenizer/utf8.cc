// Decoding by the table of well-formed byte sequences (Unicode standard, table 3-7).
#include "tokenizer/utf8.h"

namespace tandem::tokenizer {

Utf8Char next_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1, true, false};
  size_t length;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
  } else {
    return {0, 1, false, false};
  }
  uint32_t code_point = lead & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {0, i, false, true};
    const unsigned next = byte(i);
    unsigned lowest = 0x80, highest = 0xbf;
    if (i == 1) {  // no overlong forms, no surrogates, nothing above U+10FFFF
      if (lead == 0xe0) lowest = 0xa0;
      if (lead == 0xed) highest = 0x9f;
      if (lead == 0xf0) lowest = 0x90;
      if (lead == 0xf4) highest = 0x8f;
    }
    if (next < lowest || next > highest) return {0, i, false, false};
    code_point = code_point << 6 | (next & 0x3fU);
  }
  return {code_point, length, true, false};
}

std::string encode_utf8(uint32_t c) {
  std::string out;
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
  return out;
}

}  // namespace tandem::tokenizer
