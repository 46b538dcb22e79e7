// The split patterns of known model families: part of how those models were trained.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "tokenizer/pre_tokenizer.h"

namespace tandem::tokenizer {
namespace {

const std::string kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const std::string kContractions = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
const std::string kSpaces = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

// A word with at most one character before it, a number of up to `digits` digits, punctuation,
// white space.
std::string cl100k_like(const std::string& letters, const std::string& number) {
  return kContractions + R"(|[^\r\n\p{L}\p{N}]?)" + letters + "+|" + number +
         R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|)" + kSpaces;
}

// Words split where lower case turns to upper case.
std::string o200k_like(const std::string& suffix, const std::string& number,
                       const std::string& after_punctuation, const std::string& not_han = "") {
  const auto letters = [&](const std::string& classes) {
    return not_han.empty() ? "[" + classes + "]" : "(?:" + not_han + "[" + classes + "])";
  };
  const std::string upper = letters(R"(\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M})");
  const std::string lower = letters(R"(\p{Ll}\p{Lm}\p{Lo}\p{M})");
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  return before + upper + "*" + lower + "+" + suffix + "|" + before + upper + "+" + lower + "*" +
         suffix + "|" + number + R"(| ?[^\s\p{L}\p{N}]+)" + after_punctuation + "*|" + kSpaces;
}

struct Named {
  std::vector<std::string_view> names;
  PreTokenizerKind kind;
};

const std::vector<Named>& kinds() {
  static const std::vector<Named> list = {
      {{"gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais"}, {.patterns = {kGpt2}}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"},
       {.patterns = {R"(\p{N})", kGpt2}}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"},
       {.patterns = {cl100k_like(R"(\p{L})", R"(\p{N}{1,3})")},
        .ignore_merges = true,
        .add_bos = true}},
      {{"glm4", "chatglm-bpe", "dbrx", "smaug-bpe", "grok-2"},
       {.patterns = {cl100k_like(R"(\p{L})", R"(\p{N}{1,3})")}}},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"},
       {.patterns = {cl100k_like(R"(\p{L})", R"(\p{N})")}}},
      {{"qwen35"},
       {.patterns = {kContractions +
                     R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" +
                     kSpaces}}},
      {{"deepseek-llm"},
       {.patterns =
            {R"([\r\n])", R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)",
             R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)",
             R"(\s+$)", R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)", R"(\p{N}+)"}}},
      {{"deepseek-coder"},
       {.patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                     R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)", R"(\p{N})"}}},
      {{"deepseek-v3", "hunyuan-dense"},
       {.patterns =
            {R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)",
             R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
             R"(| ?[\p{P}\p{S}]+[\r\n]*|)" +
                 kSpaces}}},
      {{"tekken"},
       {.patterns = {o200k_like("", R"(\p{N})", R"([\r\n/])")},
        .ignore_merges = true,
        .add_bos = true}},
      {{"gpt-4o", "llama4", "minimax-m2"},
       {.patterns = {o200k_like(kContractions + "?", R"(\p{N}{1,3})", R"([\r\n/])")}}},
      {{"kimi-k2"},
       {.patterns = {R"(\p{Han}+|)" + o200k_like(kContractions + "?", R"(\p{N}{1,3})", R"([\r\n])",
                                                 R"((?!\p{Han}))")}}},
      {{"default"},
       {.patterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", R"([0-9][0-9][0-9])"}}},
  };
  return list;
}

}  // namespace

PreTokenizerKind find_pre_tokenizer(std::string_view name) {
  std::string known;
  for (const Named& named : kinds()) {
    if (std::find(named.names.begin(), named.names.end(), name) != named.names.end())
      return named.kind;
    for (const std::string_view n : named.names) {
      known += known.empty() ? "" : ", ";
      known += n;
    }
  }
  throw Error("the pre-tokenizer '{}' (tokenizer.ggml.pre) is not supported; known are {}", name,
              known);
}

}  // namespace tandem::tokenizer
