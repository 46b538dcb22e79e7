// SentencePiece's byte-pair encoding: neighbouring symbols whose joint text is a token merge, the
// highest score first.
#include <queue>

#include <fmt/core.h>

#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space

struct Symbol {
  std::string_view text;  // empty: merged into its left neighbour
  int32_t previous;
  int32_t next;
};

struct Candidate {
  float score;
  int32_t left;
  int32_t right;
  size_t length;  // of the joint text, to tell a candidate that is out of date

  bool operator<(const Candidate& other) const {
    return score != other.score ? score < other.score : left > other.left;
  }
};

std::string with_visible_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ') {
      out += kSpace;
    } else {
      out += c;
    }
  }
  return out;
}

class Spm : public VocabularyTokenizer {
 public:
  Spm(Vocabulary vocabulary, SpmModel model)
      : VocabularyTokenizer(std::move(vocabulary)), model_(std::move(model)) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto found = vocabulary_.ids.find(fmt::format("<0x{:02X}>", byte));
      byte_tokens_[static_cast<size_t>(byte)] = found == vocabulary_.ids.end() ? -1 : found->second;
    }
  }

  bool strips_leading_space() const override { return model_.add_space_prefix; }

 private:
  void encode_plain(std::string_view text, bool after_special,
                    std::vector<TokenId>& out) const override {
    const bool prefix = model_.add_space_prefix && after_special;
    const std::string escaped =
        with_visible_spaces(prefix ? " " + std::string(text) : std::string(text));
    std::vector<Symbol> symbols;
    for (std::string_view rest = escaped; !rest.empty();) {
      const size_t length = next_utf8(rest).length;
      const auto index = static_cast<int32_t>(symbols.size());
      symbols.push_back({rest.substr(0, length), index - 1, index + 1});
      rest.remove_prefix(length);
    }
    symbols.back().next = -1;
    merge(symbols);
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      append_token(symbols[static_cast<size_t>(i)].text, out);
    }
  }

  void merge(std::vector<Symbol>& symbols) const {
    std::priority_queue<Candidate> candidates;
    const auto at = [&](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
    const auto consider = [&](int32_t left) {
      if (left < 0 || at(left).next < 0) return;
      const int32_t right = at(left).next;
      // Symbols lie side by side in one text.
      const std::string_view joint(at(left).text.data(),
                                   at(left).text.size() + at(right).text.size());
      const auto found = vocabulary_.ids.find(joint);
      if (found == vocabulary_.ids.end()) return;
      candidates.push(
          {model_.scores[static_cast<size_t>(found->second)], left, right, joint.size()});
    };
    for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
    while (!candidates.empty()) {
      const Candidate c = candidates.top();
      candidates.pop();
      Symbol& left = at(c.left);
      Symbol& right = at(c.right);
      if (left.text.empty() || right.text.empty() ||
          left.text.size() + right.text.size() != c.length) {
        continue;
      }
      left.text = {left.text.data(), c.length};
      left.next = right.next;
      right.text = {};
      if (left.next >= 0) at(left.next).previous = c.left;
      consider(left.previous);
      consider(c.left);
    }
  }

  // A symbol that is no token is spelled in bytes.
  void append_token(std::string_view text, std::vector<TokenId>& out) const {
    if (const auto found = vocabulary_.ids.find(text); found != vocabulary_.ids.end()) {
      out.push_back(found->second);
      return;
    }
    for (const char c : text) {
      const TokenId id = byte_tokens_[static_cast<unsigned char>(c)];
      if (id >= 0) out.push_back(id);
    }
  }

  SpmModel model_;
  std::array<TokenId, 256> byte_tokens_;
};

// "<0x0A>" -> the byte; the visible space -> a space.
std::string spm_bytes(const std::string& text, TokenType type) {
  if (type == TokenType::kByte && text.size() == 6) {
    return std::string(1, static_cast<char>(std::strtol(text.c_str() + 3, nullptr, 16)));
  }
  if (type == TokenType::kControl || type == TokenType::kUserDefined) return text;
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, kSpace.size(), kSpace) == 0) {
      bytes += ' ';
      i += kSpace.size();
    } else {
      bytes += text[i++];
    }
  }
  return bytes;
}

}  // namespace

std::unique_ptr<Tokenizer> make_spm(Vocabulary vocabulary, SpmModel model) {
  vocabulary.bytes.clear();
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    vocabulary.bytes.push_back(spm_bytes(vocabulary.texts[i], vocabulary.types[i]));
  }
  return std::make_unique<Spm>(std::move(vocabulary), std::move(model));
}

}  // namespace tandem::tokenizer
