// Byte-pair merges within one piece of text (Sennrich et al. 2016): the pair with the lowest rank
// merges first, the leftmost among equals.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace tandem::tokenizer {

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using TokenMap = std::unordered_map<std::string, TokenId, TextHash, std::equal_to<>>;

class BpeMerger {
 public:
  // tokens: vocabulary texts. A merge is a pair of texts; its position is its rank.
  BpeMerger(const TokenMap& tokens, const std::vector<std::pair<std::string, std::string>>& merges);

  // parts: the piece as single characters of the vocabulary's alphabet. Appends token ids; a part
  // that is no token is left out.
  void merge(const std::vector<std::string_view>& parts, std::vector<TokenId>& out) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t symbol;
  };
  int32_t symbol_of(std::string_view text) const;
  int32_t intern(const std::string& text);

  // Symbols are all texts that occur in merges, tokens or not.
  TokenMap symbols_;
  std::vector<TokenId> token_of_symbol_;
  std::unordered_map<uint64_t, Merge> merges_;  // by left symbol << 32 | right symbol
};

}  // namespace tandem::tokenizer
