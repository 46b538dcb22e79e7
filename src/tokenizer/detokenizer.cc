// Holds bytes back until they are whole characters.
#include "tokenizer/detokenizer.h"

#include "tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

// Moves all complete characters from `bytes` to the result; with `final`, incomplete ones too, as
// U+FFFD.
std::string take_characters(std::string& bytes, bool final) {
  std::string text;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const Utf8Char c = next_utf8(rest);
    if (c.incomplete && !final) break;
    text += c.valid ? rest.substr(0, c.length) : kReplacementCharacter;
    rest.remove_prefix(c.length);
  }
  bytes.erase(0, bytes.size() - rest.size());
  return text;
}

}  // namespace

std::string to_valid_utf8(std::string bytes) { return take_characters(bytes, true); }

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string Detokenizer::push(TokenId id) {
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  std::string_view bytes = tokenizer_.bytes(id);
  if (at_start_ && tokenizer_.strips_leading_space() && bytes.starts_with(' '))
    bytes.remove_prefix(1);
  at_start_ = false;
  pending_ += bytes;
  return take_characters(pending_, false);
}

std::string Detokenizer::flush() { return take_characters(pending_, true); }

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  Detokenizer detokenizer(*this, skip_special);
  std::string text;
  for (const TokenId id : ids) text += detokenizer.push(id);
  return text + detokenizer.flush();
}

}  // namespace tandem::tokenizer
