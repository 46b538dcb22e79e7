// GPT-2's printable alphabet: byte-level vocabularies write each byte as one character, printable
// ones as themselves, the other 68 from U+0100 on.
#pragma once

#include <string>
#include <string_view>

namespace tandem::tokenizer {

// The character that stands for a byte.
const std::string& byte_character(unsigned char byte);

// A vocabulary text back to the bytes it stands for; characters outside the alphabet stay as they
// are.
std::string bytes_of_text(std::string_view text);

}  // namespace tandem::tokenizer
