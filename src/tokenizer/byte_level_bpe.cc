// Byte-level BPE: text -> pieces -> printable characters of its bytes -> merges.
#include <cstdlib>

#include <utf8proc.h>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

// Unicode normal form C; text that is no UTF-8 stays as it is.
std::string to_nfc(std::string_view text) {
  utf8proc_uint8_t* normalised = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &normalised,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) return std::string(text);
  std::string result(reinterpret_cast<const char*>(normalised), static_cast<size_t>(length));
  std::free(normalised);
  return result;
}

class ByteLevelBpe : public VocabularyTokenizer {
 public:
  ByteLevelBpe(Vocabulary vocabulary, const BpeModel& model)
      : VocabularyTokenizer(std::move(vocabulary)),
        pre_tokenizer_(model.patterns),
        merger_(vocabulary_.ids, model.merges),
        ignore_merges_(model.ignore_merges),
        normalise_nfc_(model.normalise_nfc) {}

 private:
  void encode_plain(std::string_view text, bool, std::vector<TokenId>& out) const override {
    std::string normalised;
    if (normalise_nfc_) {
      normalised = to_nfc(text);
      text = normalised;
    }
    std::vector<std::string_view> parts;
    for (const std::string_view piece : pre_tokenizer_.split(text)) {
      parts.clear();
      for (const char c : piece) parts.push_back(byte_character(static_cast<unsigned char>(c)));
      if (ignore_merges_) {
        std::string spelled;
        for (const std::string_view part : parts) spelled += part;
        if (const auto whole = vocabulary_.ids.find(spelled); whole != vocabulary_.ids.end()) {
          out.push_back(whole->second);
          continue;
        }
      }
      merger_.merge(parts, out);
    }
  }

  PreTokenizer pre_tokenizer_;
  BpeMerger merger_;
  bool ignore_merges_;
  bool normalise_nfc_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_level_bpe(Vocabulary vocabulary, const BpeModel& model) {
  return std::make_unique<ByteLevelBpe>(std::move(vocabulary), model);
}

}  // namespace tandem::tokenizer
