// `tandem tokenize`: the token ids of a text, for debugging and tests.
#include <cstdio>
#include <iostream>
#include <iterator>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "tokenizer/tokenizer.h"

namespace tandem::cli {
namespace {

struct TokenizeOptions {
  std::string gguf_path;
  std::string model_path;
  std::string separator;
  bool plain = false;
};

// Cases are joined by a line that holds the separator alone.
std::vector<std::string> split_cases(const std::string& text, const std::string& separator) {
  if (separator.empty()) return {text};
  const std::string line = fmt::format("\n{}\n", separator);
  std::vector<std::string> cases;
  size_t begin = 0;
  for (size_t end; (end = text.find(line, begin)) != std::string::npos; begin = end + line.size()) {
    cases.push_back(text.substr(begin, end - begin));
  }
  cases.push_back(text.substr(begin));
  return cases;
}

void tokenize(const TokenizeOptions& options) {
  if (options.gguf_path.empty() == options.model_path.empty()) {
    throw Error("tokenize: give either --gguf_path FILE or --model_path DIRECTORY");
  }
  std::unique_ptr<gguf::File> file;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  if (!options.gguf_path.empty()) {
    file = gguf::File::open(options.gguf_path);
    tokenizer = tokenizer::Tokenizer::from_gguf(*file);
  } else {
    tokenizer = tokenizer::Tokenizer::from_directory(options.model_path);
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  for (const std::string& one : split_cases(text, options.separator)) {
    std::string line;
    for (const auto id :
         tokenizer->encode(one, {.add_bos = false, .parse_special = !options.plain})) {
      line += fmt::format("{}{}", line.empty() ? "" : ",", id);
    }
    std::printf("[%s]\n", line.c_str());
  }
}

}  // namespace

void add_tokenize(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* verb = app.add_subcommand("tokenize", "token ids of a text read from standard input");
  verb->add_option(flag("gguf_path"), options->gguf_path, "model file or directory");
  verb->add_option(flag("model_path"), options->model_path, "directory with tokenizer.json");
  verb->add_option("--separator", options->separator, "line between cases: one array a case");
  verb->add_flag("--plain", options->plain, "do not recognise special tokens");
  verb->callback([options, exit_code] {
    tokenize(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
