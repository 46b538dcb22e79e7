// Cuts text into the pieces within which byte-pair merges happen: regular expressions applied one
// after the other, each to the pieces that the one before left.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::tokenizer {

class PreTokenizer {
 public:
  // Patterns in PCRE2 syntax over Unicode properties. Throws Error for one that does not compile.
  explicit PreTokenizer(const std::vector<std::string>& patterns);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  // Matches and the gaps between them, in order. Thread-safe. Invalid UTF-8 is never part of a
  // match.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Pattern;
  std::vector<std::unique_ptr<Pattern>> patterns_;
};

// The patterns that GGUF files name in tokenizer.ggml.pre.
struct PreTokenizerKind {
  std::vector<std::string> patterns;
  bool ignore_merges = false;  // a piece that is a token as a whole is taken as it is
  bool add_bos = false;        // when the file does not say
};
// Throws Error naming the known ones.
PreTokenizerKind find_pre_tokenizer(std::string_view name);

}  // namespace tandem::tokenizer
