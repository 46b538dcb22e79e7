// Tokens -> syntax tree, by recursive descent with Jinja's precedences: or, and, not, comparisons,
// + -, ~, * / // %,
// **, unary signs, postfix, then filters and tests.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/ast.h"
#include "chat/jinja/lexer.h"

namespace tandem::chat::jinja {

// Throws TemplateError, which names line and construct.
std::unique_ptr<const Program> parse(std::string source);

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens);
  std::unique_ptr<const Program> run();

 private:
  // Brackets and blocks inside each other; a level takes about 2 KiB of stack.
  static constexpr int kMaxNesting = 200;

  class Nesting;

  // parser.cc: tokens and statements
  const Token& current() const { return tokens_[at_]; }
  const Token& next();
  const Token& following() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  bool is_operator(std::string_view spelling) const;
  bool is_word(std::string_view word) const;
  bool skip_operator(std::string_view spelling);
  bool skip_word(std::string_view word);
  void expect_operator(std::string_view spelling);
  void expect_word(std::string_view word);
  void expect(TokenKind kind);
  std::string expect_name();
  [[noreturn]] void unexpected(const Token& token, std::string_view wanted) const;

  Symbol symbol(const std::string& name);

  Body parse_body(std::initializer_list<std::string_view> ends);
  Body parse_block(std::string_view end);  // up to and with {% end %}
  const Statement* parse_statement();
  const Statement* parse_if();
  const Statement* parse_for();
  const Statement* parse_set();
  const Statement* parse_with();
  const Statement* parse_macro();
  const Statement* parse_call_block();
  const Statement* parse_filter_block();
  const Statement* parse_loop_control();
  std::vector<Parameter> parse_parameters();
  Macro& open_macro(std::string name);
  void parse_macro_body(Macro& macro, std::string_view end);
  std::vector<Filter> parse_filters(bool first_without_pipe);
  Target parse_target(bool with_attribute, std::string_view end_word);
  Target parse_single_target(bool with_attribute);

  template <typename Node>
  const Statement* statement(int line, Node node) {
    return &program_->statements.emplace_back(Statement{line, std::move(node)});
  }

  // parser_expressions.cc
  Expr parse_expression();
  Expr parse_tuple(bool with_conditional, bool may_be_empty);
  Expr parse_or();
  Expr parse_and();
  Expr parse_not();
  Expr parse_compare();
  Expr parse_sum();
  Expr parse_concatenation();
  Expr parse_product();
  Expr parse_power();
  Expr parse_unary(bool with_filters);
  Expr parse_primary();
  Expr parse_name();
  Expr parse_number();
  Expr parse_string();
  Expr parse_list();
  Expr parse_dict();
  Expr parse_postfix(Expr expression);
  Expr parse_filters_and_tests(Expr expression);
  Expr parse_subscript(Expr object);
  Expr parse_bracketed(Expr object);
  Expr parse_test(Expr input);
  std::string parse_dotted_name();
  CallArguments parse_arguments();

  template <typename Node>
  Expr expression(int line, Node node) {
    return &program_->expressions.emplace_back(Expression{line, std::move(node)});
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int nesting_ = 0;
  int loops_ = 0;                    // open loops of the current macro
  std::vector<Macro*> open_macros_;  // whose bodies are being parsed
  std::map<std::string, Symbol> symbols_;
  std::size_t loop_mentions_ = 0;
  std::unique_ptr<Program> program_;
};

// Counts one level for as long as it lives.
class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxNesting) {
      fail("line {}: nested more than {} deep", parser_.current().line, kMaxNesting);
    }
  }
  ~Nesting() { --parser_.nesting_; }

 private:
  Parser& parser_;
};

}  // namespace tandem::chat::jinja
