// Special tokens, end tokens and the frame of encoding.
#include "tokenizer/vocabulary.h"

#include <algorithm>

#include "base/check.h"

namespace tandem::tokenizer {
namespace {

// Texts that end a turn, whatever the file says about them.
constexpr std::string_view kEndTexts[] = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|end_of_turn|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<|user|>",
    "<|observation|>",
    "<|eot|>",
    "[e~[",
    "<turn|>",
};

std::vector<TokenId> find_end_tokens(const Vocabulary& v) {
  std::vector<TokenId> ends = v.extra_ends;
  if (v.eos >= 0) ends.push_back(v.eos);
  const auto id_of = [&](std::string_view text) {
    const auto found = v.ids.find(text);
    return found == v.ids.end() ? TokenId{-1} : found->second;
  };
  // gpt-oss: <|end|> closes a channel's message, the turn goes on.
  const bool harmony = id_of("<|return|>") >= 0 && id_of("<|call|>") >= 0;
  for (const std::string_view text : kEndTexts) {
    const TokenId id = id_of(text);
    if (id < 0 || v.types[static_cast<size_t>(id)] != TokenType::kControl) continue;
    if (harmony && text == "<|end|>") continue;
    ends.push_back(id);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

// The text without shield bytes; `storage` owns the copy when there were any.
std::string_view without_shields(std::string_view text, std::string& storage) {
  if (text.find(kShield) == std::string_view::npos) return text;
  storage = text;
  std::erase(storage, kShield);
  return storage;
}

}  // namespace

SpecialSplitter::SpecialSplitter(const Vocabulary& v) {
  for (TokenId id = 0; id < v.size(); ++id) {
    const TokenType type = v.types[static_cast<size_t>(id)];
    const std::string& text = v.texts[static_cast<size_t>(id)];
    if ((type != TokenType::kControl && type != TokenType::kUserDefined) || text.empty()) continue;
    by_first_byte_[static_cast<unsigned char>(text[0])].push_back(
        {text, id, type == TokenType::kControl});
  }
  for (auto& list : by_first_byte_) {
    std::stable_sort(list.begin(), list.end(), [](const Special& a, const Special& b) {
      return a.text.size() > b.text.size();
    });
  }
}

std::vector<SpecialSplitter::Fragment> SpecialSplitter::split(std::string_view text,
                                                              bool parse_special) const {
  std::vector<Fragment> fragments;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const Special* found = nullptr;
    for (const Special& special : by_first_byte_[static_cast<unsigned char>(text[i])]) {
      if (special.control && !parse_special) continue;
      if (text.compare(i, special.text.size(), special.text) == 0) {
        found = &special;
        break;
      }
    }
    if (found == nullptr) {
      ++i;
      continue;
    }
    if (i > begin) fragments.push_back({text.substr(begin, i - begin), -1});
    fragments.push_back({{}, found->id});
    begin = i += found->text.size();
  }
  if (begin < text.size()) fragments.push_back({text.substr(begin), -1});
  return fragments;
}

VocabularyTokenizer::VocabularyTokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), splitter_(vocabulary_) {
  for (size_t i = 0; i < vocabulary_.texts.size(); ++i) {
    if (vocabulary_.types[i] == TokenType::kControl) special_texts_.push_back(vocabulary_.texts[i]);
  }
  end_tokens_ = find_end_tokens(vocabulary_);
}

std::vector<TokenId> VocabularyTokenizer::encode(std::string_view text,
                                                 const EncodeOptions& options) const {
  std::vector<TokenId> ids;
  bool after_special = true;
  std::string storage;
  for (const SpecialSplitter::Fragment& fragment : splitter_.split(text, options.parse_special)) {
    if (fragment.id >= 0) {
      ids.push_back(fragment.id);
      after_special = true;
    } else if (const auto plain = without_shields(fragment.text, storage); !plain.empty()) {
      encode_plain(plain, after_special, ids);
      after_special = false;
    }
  }
  const bool has_bos = !ids.empty() && ids[0] == vocabulary_.bos;
  if (options.add_bos && vocabulary_.add_bos && vocabulary_.bos >= 0 && !has_bos) {
    ids.insert(ids.begin(), vocabulary_.bos);
  }
  return ids;
}

std::string_view VocabularyTokenizer::bytes(TokenId id) const {
  // A model's vocabulary may be padded beyond the tokenizer's.
  if (id < 0 || id >= vocab_size()) return {};
  return vocabulary_.bytes[static_cast<size_t>(id)];
}

bool VocabularyTokenizer::is_special(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return true;
  const TokenType type = vocabulary_.types[static_cast<size_t>(id)];
  return type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUnused;
}

}  // namespace tandem::tokenizer
