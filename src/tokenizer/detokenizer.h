// Incremental detokenisation of one stream: never emits part of a UTF-8 character.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace tandem::tokenizer {

// Any bytes as valid UTF-8: ill-formed sequences become U+FFFD.
std::string to_valid_utf8(std::string bytes);

class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special);

  // The text that became complete with this token; empty while a character is incomplete. Bytes
  // that can never become valid UTF-8 come out as U+FFFD, so the result is always valid UTF-8.
  std::string push(TokenId id);
  // What is left at the end, incomplete characters as U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool at_start_ = true;
  std::string pending_;  // an incomplete character
};

}  // namespace tandem::tokenizer
