// Text <-> token ids, from GGUF metadata or a Hugging Face tokenizer.json. Immutable after load,
// safe for any number of threads. Knows nothing of chat roles.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::gguf {
class File;
}

namespace tandem::tokenizer {

using TokenId = int32_t;

// A byte that cannot occur in UTF-8. encode() drops it after special tokens are split off; whoever
// builds a prompt puts it inside a user's text wherever that text spells a special token, so that
// it stays text.
inline constexpr char kShield = '\xff';

struct EncodeOptions {
  bool add_bos =
      false;  // put BOS first when the model wants one and the text does not begin with it
  bool parse_special =
      true;  // recognise control tokens in the text; user-defined tokens are always recognised
};

class Tokenizer {
 public:
  // Throw Error for an unknown or broken vocabulary.
  static std::unique_ptr<Tokenizer> from_gguf(const gguf::File& file);
  // directory holds tokenizer.json (and tokenizer_config.json, config.json, generation_config.json
  // if present).
  static std::unique_ptr<Tokenizer> from_directory(const std::string& directory);
  virtual ~Tokenizer() = default;

  // Any bytes are accepted; invalid UTF-8 is encoded byte by byte where the vocabulary allows it.
  virtual std::vector<TokenId> encode(std::string_view text,
                                      const EncodeOptions& options) const = 0;

  // The bytes a token stands for (may be part of a UTF-8 character). Control tokens give their
  // text, e.g. "<|im_end|>".
  virtual std::string_view bytes(TokenId id) const = 0;

  virtual int vocab_size() const = 0;
  virtual TokenId bos() const = 0;                // -1: none
  virtual TokenId eos() const = 0;                // -1: none
  virtual bool wants_bos() const = 0;             // tokenizer.ggml.add_bos_token
  virtual bool is_special(TokenId id) const = 0;  // control or unknown: hidden from visible text
  virtual std::span<const TokenId> end_tokens() const = 0;  // eos, eot, eom and known end texts
  virtual std::span<const std::string> special_texts() const = 0;  // texts of all control tokens
  virtual bool strips_leading_space()
      const = 0;  // SentencePiece: the first piece's space is not text

  // The whole text of some ids.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;
};

}  // namespace tandem::tokenizer
