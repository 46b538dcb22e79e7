// PCRE2 with its just-in-time compiler.
#include "tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"

namespace tandem::tokenizer {

struct PreTokenizer::Pattern {
  struct FreeCode {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, FreeCode> code;

  explicit Pattern(const std::string& text) {
    int error = 0;
    size_t offset = 0;
    code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &offset,
                             nullptr));
    if (!code) {
      PCRE2_UCHAR message[256];
      pcre2_get_error_message(error, message, sizeof message);
      throw Error("the tokenizer's pattern '{}' is broken at {}: {}", text, offset,
                  reinterpret_cast<const char*>(message));
    }
    // Without the compiler (a hardened kernel may forbid it) matching is only slower.
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  }

  // Appends the pieces of `text`.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const {
    struct FreeMatch {
      void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    };
    const std::unique_ptr<pcre2_match_data, FreeMatch> match(
        pcre2_match_data_create_from_pattern(code.get(), nullptr));
    if (!match) throw std::bad_alloc();
    size_t done = 0;
    size_t at = 0;
    while (at < text.size()) {
      const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                    text.size(), at, 0, match.get(), nullptr);
      if (found < 0) break;  // no more, or a limit was hit: the rest stays one piece
      const size_t* ends = pcre2_get_ovector_pointer(match.get());
      if (ends[1] <= ends[0]) {  // an empty match: go on behind it
        at = ends[1] + 1;
        continue;
      }
      if (ends[0] > done) pieces.push_back(text.substr(done, ends[0] - done));
      pieces.push_back(text.substr(ends[0], ends[1] - ends[0]));
      done = at = ends[1];
    }
    if (done < text.size()) pieces.push_back(text.substr(done));
  }
};

PreTokenizer::PreTokenizer(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns)
    patterns_.push_back(std::make_unique<Pattern>(pattern));
}
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces = {text};
  for (const auto& pattern : patterns_) {
    std::vector<std::string_view> finer;
    finer.reserve(pieces.size() + text.size() / 4);
    for (const std::string_view piece : pieces) pattern->split(piece, finer);
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace tandem::tokenizer
