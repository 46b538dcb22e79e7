// The two directions of the alphabet.
#include "tokenizer/byte_alphabet.h"

#include <array>

#include "tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, 512> bytes;  // by code point, -1: none

  Alphabet() {
    bytes.fill(-1);
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const int code_point = printable ? byte : next++;
      characters[static_cast<size_t>(byte)] = encode_utf8(static_cast<uint32_t>(code_point));
      bytes[static_cast<size_t>(code_point)] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::string& byte_character(unsigned char byte) { return alphabet().characters[byte]; }

std::string bytes_of_text(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const Utf8Char c = next_utf8(text);
    const bool known = c.valid && c.code_point < 512 && alphabet().bytes[c.code_point] >= 0;
    if (known) {
      bytes += static_cast<char>(alphabet().bytes[c.code_point]);
    } else {
      bytes += text.substr(0, c.length);
    }
    text.remove_prefix(c.length);
  }
  return bytes;
}

}  // namespace tandem::tokenizer
