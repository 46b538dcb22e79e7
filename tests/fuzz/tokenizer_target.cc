// What users write, through tokenizers of every kind of split pattern.
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "gguf/file.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/temp_file.h"
#include "tokenizer/tokenizer.h"

namespace tandem::fuzz {
namespace {

// One name for each family of patterns (tokenizer/pre_tokenizer_kinds.cc).
constexpr const char* kKinds[] = {"gpt-2",  "smollm",       "llama-bpe",      "qwen2",
                                  "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                                  "gpt-4o", "tekken",       "kimi-k2",        "glm4"};

std::string read_seed(const std::string& name) {
  std::ifstream file(TANDEM_SOURCE_DIR "/tests/fuzz/corpus/gguf/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<tokenizer::Tokenizer> load(const std::string& bytes) {
  const TempFile file("-vocabulary.gguf");
  file.write(bytes);
  return tokenizer::Tokenizer::from_gguf(*gguf::File::open(file.path()));
}

// A string of GGUF: eight bytes of length, then the text.
std::string gguf_string(const std::string& text) {
  std::string out(8, '\0');
  out[0] = static_cast<char>(text.size());
  return out + text;
}

std::vector<std::unique_ptr<tokenizer::Tokenizer>> load_all() {
  std::vector<std::unique_ptr<tokenizer::Tokenizer>> all;
  const std::string seed = read_seed("vocabulary-bpe"), old = gguf_string("qwen2");
  const size_t at = seed.find(old);
  TANDEM_CHECK(at != std::string::npos, "the seed names no kind of {} bytes", seed.size());
  for (const char* kind : kKinds) {
    std::string bytes = seed;
    bytes.replace(at, old.size(), gguf_string(kind));
    all.push_back(load(bytes));
  }
  all.push_back(load(read_seed("vocabulary-spm")));
  return all;
}

}  // namespace

// The first byte chooses the tokenizer. One of bytes gives back every text without shields, whether
// it is UTF-8 or not.
void encode(Bytes bytes) {
  static const auto tokenizers = load_all();
  if (bytes.empty()) return;
  const size_t index = bytes[0] % tokenizers.size();
  const tokenizer::Tokenizer& tokenizer = *tokenizers[index];
  std::string text(text_of(bytes.subspan(1)));
  static_cast<void>(tokenizer.encode(text, {.add_bos = true, .parse_special = true}));
  std::erase(text, tokenizer::kShield);
  const auto ids = tokenizer.encode(text, {.add_bos = false, .parse_special = false});
  for (const tokenizer::TokenId id : ids) {
    TANDEM_CHECK(id >= 0 && id < tokenizer.vocab_size(), "token {}", id);
  }
  if (index + 1 == tokenizers.size()) return;  // SentencePiece adds a space
  std::string again;
  for (const tokenizer::TokenId id : ids) again += tokenizer.bytes(id);
  TANDEM_CHECK(again == text, "'{}' became '{}' ({})", text, again, kKinds[index]);
}

}  // namespace tandem::fuzz
