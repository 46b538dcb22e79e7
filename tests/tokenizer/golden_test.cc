// Real vocabularies and the default model against recorded token ids; properties of detokenisation.
#include "tests/golden.h"

#include <random>
#include <sstream>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "gguf/file.h"
#include "tokenizer/detokenizer.h"
#include "tokenizer/tokenizer.h"

namespace tandem::tokenizer {
namespace {

using Ids = std::vector<TokenId>;

struct Loaded {
  std::unique_ptr<gguf::File> file;
  std::unique_ptr<Tokenizer> tokenizer;
};

Loaded load(const std::string& path) {
  Loaded loaded;
  loaded.file = gguf::File::open(path);
  loaded.tokenizer = Tokenizer::from_gguf(*loaded.file);
  return loaded;
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos;
       begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

class Vocabulary : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = testing::golden_path("vocab/ggml-vocab-" + std::string(GetParam()) + ".gguf");
    if (path_.empty()) GTEST_SKIP() << "the vocabulary file is not beside the checkout";
  }
  std::string path_;
};

TEST_P(Vocabulary, EncodesTheRecordedCases) {
  const Loaded loaded = load(path_);
  const std::string stem = "vocab/ggml-vocab-" + std::string(GetParam()) + ".gguf";
  const auto inputs =
      split(testing::read_file(testing::golden_path(stem + ".inp")), "\n__ggml_vocab_test__\n");
  const auto outputs = split(testing::read_file(testing::golden_path(stem + ".out")), "\n");
  ASSERT_GE(outputs.size(), inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    Ids expected;
    std::istringstream line(outputs[i]);
    for (TokenId id; line >> id;) expected.push_back(id);
    EXPECT_EQ(loaded.tokenizer->encode(inputs[i], {.add_bos = false, .parse_special = true}),
              expected)
        << "case " << i << ": " << inputs[i];
  }
}

TEST_P(Vocabulary, TextsSurviveARoundTrip) {
  const Loaded loaded = load(path_);
  for (const std::string text : {"Hello, world", "  two  spaces\n\n\ttab",
                                 "naïve café — 北京 🦙🚀", "a\xcc\x81"}) {
    const Ids ids = loaded.tokenizer->encode(text, {.add_bos = false, .parse_special = false});
    EXPECT_EQ(loaded.tokenizer->decode(ids, false), text);
  }
}

TEST_P(Vocabulary, IncrementsAreWholeCharactersAndAddUp) {
  const Loaded loaded = load(path_);
  std::mt19937 generator(1);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    for (int i = 0; i < 30; ++i) {
      ids.push_back(static_cast<TokenId>(generator() %
                                         static_cast<uint32_t>(loaded.tokenizer->vocab_size())));
    }
    Detokenizer detokenizer(*loaded.tokenizer, false);
    std::string joined;
    for (const TokenId id : ids) {
      const std::string piece = detokenizer.push(id);
      EXPECT_EQ(to_valid_utf8(piece), piece);
      joined += piece;
    }
    joined += detokenizer.flush();
    EXPECT_EQ(joined, loaded.tokenizer->decode(ids, false));
  }
}

TEST_P(Vocabulary, SpecialTextsAreOnlyParsedWhenAsked) {
  const Loaded loaded = load(path_);
  for (const std::string& special : loaded.tokenizer->special_texts()) {
    if (special.size() < 3) continue;
    const auto contains_special = [&](const Ids& ids) {
      return std::any_of(ids.begin(), ids.end(), [&](TokenId id) {
        return loaded.tokenizer->bytes(id) == special && loaded.tokenizer->is_special(id);
      });
    };
    const EncodeOptions parsed{.add_bos = false, .parse_special = true};
    EXPECT_TRUE(contains_special(loaded.tokenizer->encode("a" + special + "b", parsed))) << special;
    EXPECT_FALSE(contains_special(
        loaded.tokenizer->encode("a" + special + "b", {.add_bos = false, .parse_special = false})));
    std::string shielded = special;
    shielded.insert(1, 1, kShield);
    const Ids ids = loaded.tokenizer->encode("a" + shielded + "b", parsed);
    EXPECT_FALSE(contains_special(ids));
    EXPECT_EQ(loaded.tokenizer->decode(ids, false), "a" + special + "b");
  }
}

INSTANTIATE_TEST_SUITE_P(Files, Vocabulary,
                         ::testing::Values("deepseek-llm", "gpt-2", "llama-spm", "qwen2"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(DefaultModel, EncodesTheRecordedPrompts) {
  const std::string model =
      std::string(TANDEM_SOURCE_DIR) + "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(model))
    GTEST_SKIP() << "the default model is not unpacked (make setup)";
  const Loaded loaded = load(model);
  const auto recorded =
      boost::json::parse(testing::read_file(testing::golden_path("smollm2/chat.json")));
  for (const auto& c : recorded.at("cases").as_array()) {
    Ids expected;
    for (const auto& id : c.at("ids").as_array())
      expected.push_back(static_cast<TokenId>(id.as_int64()));
    EXPECT_EQ(loaded.tokenizer->encode(c.at("prompt").as_string(),
                                       {.add_bos = true, .parse_special = true}),
              expected);
  }
}

TEST(DefaultModel, LongTextWithoutSpacesTakesNoQuadraticTime) {
  const std::string model =
      std::string(TANDEM_SOURCE_DIR) + "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(model))
    GTEST_SKIP() << "the default model is not unpacked (make setup)";
  const Loaded loaded = load(model);
  // A quadratic merge of 2^19 characters would take hours.
  const std::string text(1 << 19, 'a');
  const Ids ids = loaded.tokenizer->encode(text, {.add_bos = false, .parse_special = false});
  EXPECT_EQ(loaded.tokenizer->decode(ids, false), text);
}

}  // namespace
}  // namespace tandem::tokenizer
