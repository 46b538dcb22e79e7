// Every recorded input once through its target: the seeds of the fuzzers, and what they found.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include <gtest/gtest.h>

#include "tests/fuzz/targets.h"

namespace tandem::fuzz {
namespace {

void run_corpus(const std::string& name, Target target) {
  std::vector<std::filesystem::path> files;
  const auto folder = std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/fuzz/corpus" / name;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  ASSERT_GT(files.size(), 5U);
  for (const auto& path : files) {
    SCOPED_TRACE(path.string());
    std::ifstream file(path, std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    target(bytes);
    // Shorter ones end inside whatever the input was about.
    for (const size_t part : {2, 3, 7}) {
      target(Bytes(bytes).first(bytes.size() * (part - 1) / part));
    }
  }
}

TEST(Corpus, Gguf) { run_corpus("gguf", gguf); }
TEST(Corpus, Jinja) { run_corpus("jinja", jinja); }
TEST(Corpus, JsonBody) { run_corpus("json_body", json_body); }
TEST(Corpus, Http) { run_corpus("http", http); }
TEST(Corpus, Encode) { run_corpus("encode", encode); }
TEST(Corpus, Output) { run_corpus("output", output); }
TEST(Corpus, Records) { run_corpus("records", records); }

}  // namespace
}  // namespace tandem::fuzz
