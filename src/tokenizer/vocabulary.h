// The tokens of a model and what they are; the part that all tokenizers share.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/tokenizer.h"

namespace tandem::tokenizer {

// Values of tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct Vocabulary {
  std::vector<std::string> texts;  // as the file spells them
  std::vector<std::string> bytes;  // what they stand for
  std::vector<TokenType> types;
  TokenMap ids;  // by text; the first of equal texts
  TokenId bos = -1;
  TokenId eos = -1;
  bool add_bos = false;
  std::vector<TokenId> extra_ends;  // eot, eom and the like, as the file names them

  int size() const { return static_cast<int>(texts.size()); }
};

// Finds control and user-defined tokens in text, the longest first.
class SpecialSplitter {
 public:
  explicit SpecialSplitter(const Vocabulary& vocabulary);

  struct Fragment {
    std::string_view text;  // when id is -1
    TokenId id;
  };
  // Control tokens only with parse_special; user-defined ones always.
  std::vector<Fragment> split(std::string_view text, bool parse_special) const;

 private:
  struct Special {
    std::string text;
    TokenId id;
    bool control;
  };
  std::array<std::vector<Special>, 256> by_first_byte_;  // longest first
};

// Tokenizer over a vocabulary; how plain text is encoded is left to the kind.
class VocabularyTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string_view bytes(TokenId id) const override;
  int vocab_size() const override { return vocabulary_.size(); }
  TokenId bos() const override { return vocabulary_.bos; }
  TokenId eos() const override { return vocabulary_.eos; }
  bool wants_bos() const override { return vocabulary_.add_bos; }
  bool is_special(TokenId id) const override;
  std::span<const TokenId> end_tokens() const override { return end_tokens_; }
  std::span<const std::string> special_texts() const override { return special_texts_; }
  bool strips_leading_space() const override { return false; }

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary);

  // after_special: the text stands at the beginning or behind a special token.
  virtual void encode_plain(std::string_view text, bool after_special,
                            std::vector<TokenId>& out) const = 0;

  const Vocabulary vocabulary_;

 private:
  SpecialSplitter splitter_;
  std::vector<std::string> special_texts_;
  std::vector<TokenId> end_tokens_;
};

// Byte-level BPE. patterns, merges: see PreTokenizer and BpeMerger.
struct BpeModel {
  std::vector<std::string> patterns;
  std::vector<std::pair<std::string, std::string>> merges;
  bool ignore_merges = false;
  bool normalise_nfc = false;
};
std::unique_ptr<Tokenizer> make_byte_level_bpe(Vocabulary vocabulary, const BpeModel& model);

// SentencePiece's BPE by scores, with byte fallback. scores: one for each token.
struct SpmModel {
  std::vector<float> scores;
  bool add_space_prefix = true;
};
std::unique_ptr<Tokenizer> make_spm(Vocabulary vocabulary, SpmModel model);

}  // namespace tandem::tokenizer
