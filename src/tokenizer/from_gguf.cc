// Tokenizers from the tokenizer.ggml.* metadata of a GGUF file, all of it checked.
#include "base/error.h"
#include "gguf/file.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

template <typename T>
const std::vector<T>* find_items(const gguf::File& file, std::string_view key) {
  const gguf::Array* array = file.find_array(key);
  if (array == nullptr) return nullptr;
  const auto* items = std::get_if<std::vector<T>>(&array->items);
  if (items == nullptr) throw Error("{}: {} holds items of an unexpected type", file.path(), key);
  return items;
}

TokenId read_token_id(const gguf::File& file, std::string_view key, int size) {
  if (file.find(key) == nullptr) return -1;
  // Some converters write the largest u32 for "none".
  const uint64_t id = file.get_u64(key);
  if (id == 0xffffffffU) return -1;
  if (id >= static_cast<uint64_t>(size)) {
    throw Error("{}: {} is {}, the vocabulary has {} tokens", file.path(), key, id, size);
  }
  return static_cast<TokenId>(id);
}

Vocabulary read_vocabulary(const gguf::File& file) {
  const auto* texts = find_items<std::string_view>(file, "tokenizer.ggml.tokens");
  if (texts == nullptr || texts->empty()) {
    throw Error("{}: tokenizer.ggml.tokens is missing or empty", file.path());
  }
  if (texts->size() > (size_t{1} << 24)) {
    throw Error("{}: tokenizer.ggml.tokens has {} entries", file.path(), texts->size());
  }
  Vocabulary v;
  v.texts.assign(texts->begin(), texts->end());
  v.types.assign(v.texts.size(), TokenType::kNormal);
  if (const gguf::Array* array = file.find_array("tokenizer.ggml.token_type")) {
    if (array->size() != v.texts.size()) {
      throw Error("{}: {} token types for {} tokens", file.path(), array->size(), v.texts.size());
    }
    const auto* types = find_items<int64_t>(file, "tokenizer.ggml.token_type");
    for (size_t i = 0; i < types->size(); ++i) {
      const int64_t type = (*types)[i];
      if (type >= 1 && type <= 6) v.types[i] = static_cast<TokenType>(type);
    }
  }
  for (size_t i = 0; i < v.texts.size(); ++i)
    v.ids.try_emplace(v.texts[i], static_cast<TokenId>(i));
  v.bos = read_token_id(file, "tokenizer.ggml.bos_token_id", v.size());
  v.eos = read_token_id(file, "tokenizer.ggml.eos_token_id", v.size());
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const TokenId id = read_token_id(file, key, v.size());
    if (id >= 0) v.extra_ends.push_back(id);
  }
  return v;
}

std::unique_ptr<Tokenizer> bpe_from_gguf(const gguf::File& file) {
  const PreTokenizerKind kind =
      find_pre_tokenizer(file.get_string_or("tokenizer.ggml.pre", "default"));
  Vocabulary v = read_vocabulary(file);
  v.add_bos = file.get_bool_or("tokenizer.ggml.add_bos_token", kind.add_bos);
  for (size_t i = 0; i < v.texts.size(); ++i) {
    const bool spelled = v.types[i] == TokenType::kNormal || v.types[i] == TokenType::kUnused;
    v.bytes.push_back(spelled ? bytes_of_text(v.texts[i]) : v.texts[i]);
  }
  BpeModel model{.patterns = kind.patterns, .merges = {}, .ignore_merges = kind.ignore_merges};
  const auto* merges = find_items<std::string_view>(file, "tokenizer.ggml.merges");
  if (merges == nullptr) throw Error("{}: tokenizer.ggml.merges is missing", file.path());
  for (const std::string_view merge : *merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      throw Error("{}: tokenizer.ggml.merges holds '{}', which is no pair", file.path(), merge);
    }
    model.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return make_byte_level_bpe(std::move(v), model);
}

std::unique_ptr<Tokenizer> spm_from_gguf(const gguf::File& file) {
  Vocabulary v = read_vocabulary(file);
  v.add_bos = file.get_bool_or("tokenizer.ggml.add_bos_token", true);
  SpmModel model;
  model.add_space_prefix = file.get_bool_or("tokenizer.ggml.add_space_prefix", true);
  const auto* scores = find_items<double>(file, "tokenizer.ggml.scores");
  if (scores == nullptr || scores->size() != v.texts.size()) {
    throw Error("{}: tokenizer.ggml.scores has not one score for each token", file.path());
  }
  model.scores.assign(scores->begin(), scores->end());
  return make_spm(std::move(v), std::move(model));
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_gguf(const gguf::File& file) {
  const std::string_view model = file.get_string("tokenizer.ggml.model");
  if (model == "gpt2") return bpe_from_gguf(file);
  if (model == "llama") return spm_from_gguf(file);
  throw Error(
      "{}: tokenizer model '{}' is not supported; known are gpt2 (byte-level BPE), llama "
      "(SentencePiece)",
      file.path(), model);
}

}  // namespace tandem::tokenizer
