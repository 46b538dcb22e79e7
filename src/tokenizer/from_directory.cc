// Tokenizers from Hugging Face's tokenizer.json: byte-level BPE, with what tokenizer_config.json
// and generation_config.json say of special tokens.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

namespace json = boost::json;

// GPT-2's pattern, which the ByteLevel pre-tokenizer implies.
constexpr const char* kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

json::object read_object(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) throw Error("{}: cannot be read", path);
  Result<json::value> parsed = parse_json(text.str());
  if (!parsed) throw Error("{}: {}", path, parsed.failure().message);
  if (!parsed->is_object()) throw Error("{}: is not a JSON object", path);
  return std::move(parsed->get_object());
}

class Reader {
 public:
  explicit Reader(const std::string& directory)
      : path_(directory + "/tokenizer.json"), directory_(directory), root_(read_object(path_)) {}

  std::unique_ptr<Tokenizer> read() {
    const json::object& model = object(root_, "model");
    if (text(model, "type") != "BPE")
      fail("model type '" + text(model, "type") + "' is not supported; BPE is");
    if (flag(model, "byte_fallback")) {
      fail(
          "SentencePiece-style BPE is read from GGUF files only; leave tokenizer.json out of the "
          "directory");
    }
    read_vocabulary(object(model, "vocab"));
    BpeModel bpe;
    bpe.ignore_merges = flag(model, "ignore_merges");
    read_merges(model, bpe);
    if (const json::value* steps = root_.if_contains("pre_tokenizer"))
      read_pre_tokenizer(*steps, bpe);
    if (const json::value* normalizer = root_.if_contains("normalizer"))
      read_normalizer(*normalizer, bpe);
    read_special_roles();
    return make_byte_level_bpe(std::move(vocabulary_), bpe);
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const { throw Error("{}: {}", path_, reason); }

  const json::object& object(const json::object& in, const char* key) const {
    const json::value* value = in.if_contains(key);
    if (value == nullptr || !value->is_object()) fail(std::string("has no object '") + key + "'");
    return value->get_object();
  }
  static std::string text(const json::object& in, const char* key) {
    const json::value* value = in.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string())
                                                  : std::string();
  }
  static bool flag(const json::object& in, const char* key) {
    const json::value* value = in.if_contains(key);
    return value != nullptr && value->is_bool() && value->get_bool();
  }

  void put(int64_t id, const std::string& token, TokenType type) {
    if (id < 0 || id >= (1 << 24)) fail("token '" + token + "' has id " + std::to_string(id));
    const auto index = static_cast<size_t>(id);
    if (index >= vocabulary_.texts.size()) {
      vocabulary_.texts.resize(index + 1);
      vocabulary_.bytes.resize(index + 1);
      vocabulary_.types.resize(index + 1, TokenType::kUnused);
    }
    vocabulary_.texts[index] = token;
    vocabulary_.types[index] = type;
    vocabulary_.bytes[index] = type == TokenType::kNormal ? bytes_of_text(token) : token;
    vocabulary_.ids.insert_or_assign(token, static_cast<TokenId>(id));
  }

  void read_vocabulary(const json::object& vocab) {
    for (const auto& [token, id] : vocab) {
      if (!id.is_int64()) fail("the vocabulary holds an id that is no integer");
      put(id.get_int64(), std::string(token), TokenType::kNormal);
    }
    const json::value* added = root_.if_contains("added_tokens");
    if (added == nullptr || !added->is_array()) return;
    for (const json::value& item : added->get_array()) {
      const json::object* token = item.if_object();
      const json::value* id = token == nullptr ? nullptr : token->if_contains("id");
      if (id == nullptr || !id->is_int64()) fail("an added token has no id");
      put(id->get_int64(), text(*token, "content"),
          flag(*token, "special") ? TokenType::kControl : TokenType::kUserDefined);
    }
  }

  // "a b" or ["a", "b"]
  void read_merges(const json::object& model, BpeModel& bpe) const {
    const json::value* merges = model.if_contains("merges");
    if (merges == nullptr || !merges->is_array()) fail("has no merges");
    for (const json::value& merge : merges->get_array()) {
      if (merge.is_string()) {
        const std::string pair(merge.get_string());
        const size_t space = pair.find(' ', 1);
        if (space == std::string::npos) fail("merge '" + pair + "' is no pair");
        bpe.merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
      } else if (merge.is_array() && merge.get_array().size() == 2 &&
                 merge.get_array()[0].is_string() && merge.get_array()[1].is_string()) {
        bpe.merges.emplace_back(merge.get_array()[0].get_string(),
                                merge.get_array()[1].get_string());
      } else {
        fail("holds a merge that is no pair");
      }
    }
  }

  void read_pre_tokenizer(const json::value& value, BpeModel& bpe) const {
    const json::object* step = value.if_object();
    if (step == nullptr) return;
    const std::string type = text(*step, "type");
    if (type == "Sequence") {
      const json::value* steps = step->if_contains("pretokenizers");
      if (steps == nullptr || !steps->is_array()) fail("a sequence of pre-tokenizers is empty");
      for (const json::value& inner : steps->get_array()) {
        if (inner.is_object() && text(inner.get_object(), "type") == "Sequence")
          fail("nested pre-tokenizers are not supported");
        read_pre_tokenizer(inner, bpe);
      }
    } else if (type == "Split") {
      const json::object& pattern = object(*step, "pattern");
      if (text(*step, "behavior") != "Isolated" || flag(*step, "invert")) {
        fail("the pre-tokenizer Split is supported with behavior Isolated only");
      }
      const std::string regex = text(pattern, "Regex");
      bpe.patterns.push_back(regex.empty() ? "\\Q" + text(pattern, "String") + "\\E" : regex);
    } else if (type == "Digits") {
      bpe.patterns.push_back(flag(*step, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)");
    } else if (type == "ByteLevel") {
      if (flag(*step, "add_prefix_space")) fail("the option add_prefix_space is not supported");
      const json::value* use_regex = step->if_contains("use_regex");
      if (use_regex == nullptr || !use_regex->is_bool() || use_regex->get_bool()) {
        bpe.patterns.emplace_back(kByteLevelPattern);
      }
    } else {
      fail("the pre-tokenizer '" + type + "' is not supported");
    }
  }

  void read_normalizer(const json::value& value, BpeModel& bpe) const {
    const json::object* normalizer = value.if_object();
    if (normalizer == nullptr) return;
    if (const json::value* steps = normalizer->if_contains("normalizers");
        steps != nullptr && steps->is_array()) {
      if (!steps->get_array().empty()) fail("a sequence of normalizers is not supported");
      return;
    }
    if (text(*normalizer, "type") != "NFC")
      fail("the normalizer '" + text(*normalizer, "type") + "' is not supported");
    bpe.normalise_nfc = true;
  }

  // A token named by its text or by an object with "content".
  TokenId named_token(const json::object& config, const char* key) const {
    const json::value* value = config.if_contains(key);
    if (value == nullptr) return -1;
    std::string name;
    if (value->is_string()) name = std::string(value->get_string());
    if (value->is_object()) name = text(value->get_object(), "content");
    const auto found = vocabulary_.ids.find(name);
    return found == vocabulary_.ids.end() ? -1 : found->second;
  }

  void read_special_roles() {
    if (const std::string path = directory_ + "/tokenizer_config.json";
        std::filesystem::exists(path)) {
      const json::object config = read_object(path);
      vocabulary_.bos = named_token(config, "bos_token");
      vocabulary_.eos = named_token(config, "eos_token");
      vocabulary_.add_bos = flag(config, "add_bos_token");
    }
    if (const std::string path = directory_ + "/generation_config.json";
        std::filesystem::exists(path)) {
      const json::object config = read_object(path);
      const json::value* ends = config.if_contains("eos_token_id");
      const auto add = [&](const json::value& id) {
        if (id.is_int64() && id.get_int64() >= 0 && id.get_int64() < vocabulary_.size()) {
          vocabulary_.extra_ends.push_back(static_cast<TokenId>(id.get_int64()));
        }
      };
      if (ends != nullptr && ends->is_array()) {
        for (const json::value& id : ends->get_array()) add(id);
      } else if (ends != nullptr) {
        add(*ends);
      }
    }
  }

  std::string path_;
  std::string directory_;
  json::object root_;
  Vocabulary vocabulary_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_directory(const std::string& directory) {
  return Reader(directory).read();
}

}  // namespace tandem::tokenizer
