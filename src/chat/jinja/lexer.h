// Template text -> tokens, with Jinja's white-space control: trim_blocks and lstrip_blocks on, one
// trailing newline dropped, `-` and `+` at the tags, raw blocks taken verbatim, comments gone.
#pragma once

#include <string>
#include <vector>

namespace tandem::chat::jinja {

enum class TokenKind {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,  // text: the characters meant
  kInteger,
  kFloat,
  kOperator,  // text: the operator's spelling
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;
};

// Throws TemplateError, which names the line. The last token is kEnd.
std::vector<Token> tokenize(std::string source);

// How messages name a token.
std::string describe(const Token& token);

}  // namespace tandem::chat::jinja
