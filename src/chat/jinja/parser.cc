// Statements. A block's body ends where a tag opens with one of the words that may end it.
#include "chat/jinja/parser.h"

#include <algorithm>

#include "chat/jinja/functions.h"

namespace tandem::chat::jinja {

std::unique_ptr<const Program> parse(std::string source) {
  return Parser(tokenize(std::move(source))).run();
}

Parser::Parser(std::vector<Token> tokens)
    : tokens_(std::move(tokens)), program_(std::make_unique<Program>()) {}

std::unique_ptr<const Program> Parser::run() {
  program_->loop = symbol("loop");
  program_->caller = symbol("caller");
  program_->varargs = symbol("varargs");
  program_->kwargs = symbol("kwargs");
  program_->body = parse_body({});
  return std::move(program_);
}

const Token& Parser::next() {
  const Token& token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool Parser::is_operator(std::string_view spelling) const {
  return current().kind == TokenKind::kOperator && current().text == spelling;
}

bool Parser::is_word(std::string_view word) const {
  return current().kind == TokenKind::kName && current().text == word;
}

bool Parser::skip_operator(std::string_view spelling) {
  if (!is_operator(spelling)) return false;
  next();
  return true;
}

bool Parser::skip_word(std::string_view word) {
  if (!is_word(word)) return false;
  next();
  return true;
}

void Parser::expect_operator(std::string_view spelling) {
  if (!skip_operator(spelling)) unexpected(current(), spelling);
}

void Parser::expect_word(std::string_view word) {
  if (!skip_word(word)) unexpected(current(), word);
}

void Parser::expect(TokenKind kind) {
  if (current().kind != kind) unexpected(current(), describe(Token{kind, "", 0}));
  next();
}

std::string Parser::expect_name() {
  if (current().kind != TokenKind::kName) unexpected(current(), "a name");
  return next().text;
}

void Parser::unexpected(const Token& token, std::string_view wanted) const {
  fail("line {}: expected {}, got {}", token.line, wanted, describe(token));
}

Symbol Parser::symbol(const std::string& name) {
  const auto [entry, is_new] =
      symbols_.try_emplace(name, static_cast<Symbol>(program_->names.size()));
  if (is_new) program_->names.push_back(name);
  return entry->second;
}

// Stops before a tag whose first word is one of `ends`, with that word current; without ends, at
// the template's end.
Body Parser::parse_body(std::initializer_list<std::string_view> ends) {
  const Nesting nesting(*this);
  Body body;
  for (;;) {
    const Token& token = next();
    switch (token.kind) {
      case TokenKind::kEnd:
        if (ends.size() != 0)
          fail("line {}: unexpected end of template, expected {}", token.line, *(ends.end() - 1));
        return body;
      case TokenKind::kData:
        body.push_back(statement(token.line, Data{token.text}));
        break;
      case TokenKind::kVariableBegin:
        body.push_back(statement(token.line, Output{parse_tuple(true, false)}));
        expect(TokenKind::kVariableEnd);
        break;
      default:  // a block begins
        if (std::any_of(ends.begin(), ends.end(),
                        [this](std::string_view end) { return is_word(end); }))
          return body;
        body.push_back(parse_statement());
        expect(TokenKind::kBlockEnd);
    }
  }
}

Body Parser::parse_block(std::string_view end) {
  expect(TokenKind::kBlockEnd);
  Body body = parse_body({end});
  expect_word(end);
  return body;
}

const Statement* Parser::parse_statement() {
  if (current().kind != TokenKind::kName) unexpected(current(), "a statement");
  const std::string word = current().text;
  if (word == "if") return parse_if();
  if (word == "for") return parse_for();
  if (word == "set") return parse_set();
  if (word == "with") return parse_with();
  if (word == "macro") return parse_macro();
  if (word == "call") return parse_call_block();
  if (word == "filter") return parse_filter_block();
  if (word == "break" || word == "continue") return parse_loop_control();
  if (word == "generation") {
    const int line = next().line;
    return statement(line, ScopedBlock{parse_block("endgeneration")});
  }
  fail("line {}: unknown or misplaced statement '{}'", current().line, word);
}

const Statement* Parser::parse_if() {
  const int line = current().line;
  If node;
  do {
    next();  // if, elif
    Expr condition = parse_tuple(false, false);
    expect(TokenKind::kBlockEnd);
    node.branches.push_back({condition, parse_body({"elif", "else", "endif"})});
  } while (is_word("elif"));
  if (skip_word("else")) {
    node.otherwise = parse_block("endif");
  } else {
    expect_word("endif");
  }
  return statement(line, std::move(node));
}

const Statement* Parser::parse_for() {
  const int line = next().line;
  For node{};
  node.target = parse_target(false, "in");
  expect_word("in");
  node.items = parse_tuple(false, false);
  if (skip_word("if")) node.condition = parse_expression();
  if (is_word("recursive")) fail("line {}: recursive loops are not supported", current().line);
  expect(TokenKind::kBlockEnd);
  const std::size_t mentions = loop_mentions_;
  ++loops_;
  node.body = parse_body({"else", "endfor"});
  --loops_;
  node.uses_loop = loop_mentions_ != mentions;
  if (skip_word("else")) {
    node.otherwise = parse_block("endfor");
  } else {
    expect_word("endfor");
  }
  return statement(line, std::move(node));
}

Target Parser::parse_single_target(bool with_attribute) {
  if (skip_operator("(")) {
    const Nesting nesting(*this);
    Target target = parse_target(with_attribute, "");
    expect_operator(")");
    return target;
  }
  const int line = current().line;
  const std::string name = expect_name();
  static constexpr std::string_view kConstants[] = {"true", "false", "none",
                                                    "True", "False", "None"};
  if (std::find(std::begin(kConstants), std::end(kConstants), name) != std::end(kConstants)) {
    fail("line {}: cannot assign to '{}'", line, name);
  }
  Target target{.name = symbol(name)};
  if (with_attribute && skip_operator(".")) target.attribute = expect_name();
  return target;
}

Target Parser::parse_target(bool with_attribute, std::string_view end_word) {
  Target first = parse_single_target(with_attribute);
  if (!is_operator(",")) return first;
  Target tuple{.is_tuple = true};
  tuple.parts.push_back(std::move(first));
  const auto at_end = [&] { return is_word(end_word) || is_operator("=") || is_operator(")"); };
  while (skip_operator(",") && !at_end())
    tuple.parts.push_back(parse_single_target(with_attribute));
  return tuple;
}

const Statement* Parser::parse_set() {
  const int line = next().line;
  Target target = parse_target(true, "");
  if (skip_operator("=")) {
    return statement(line, Set{std::move(target), parse_tuple(true, false)});
  }
  SetBlock node{std::move(target), parse_filters(false), {}};
  node.body = parse_block("endset");
  return statement(line, std::move(node));
}

const Statement* Parser::parse_with() {
  const int line = next().line;
  With node;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!node.assignments.empty()) expect_operator(",");
    Target target = parse_target(false, "");
    expect_operator("=");
    node.assignments.emplace_back(std::move(target), parse_expression());
  }
  node.body = parse_block("endwith");
  return statement(line, std::move(node));
}

std::vector<Parameter> Parser::parse_parameters() {
  std::vector<Parameter> parameters;
  expect_operator("(");
  while (!is_operator(")")) {
    if (!parameters.empty()) expect_operator(",");
    const int line = current().line;
    Parameter parameter{symbol(expect_name()), nullptr};
    if (skip_operator("=")) {
      parameter.fallback = parse_expression();
    } else if (!parameters.empty() && parameters.back().fallback != nullptr) {
      fail("line {}: parameter without a default after one with a default", line);
    }
    parameters.push_back(parameter);
  }
  expect_operator(")");
  return parameters;
}

Macro& Parser::open_macro(std::string name) {
  Macro& macro = program_->macros.emplace_back();
  macro.symbol = symbol(name);
  macro.name = std::move(name);
  return macro;
}

void Parser::parse_macro_body(Macro& macro, std::string_view end) {
  const int outer_loops = std::exchange(loops_, 0);
  open_macros_.push_back(&macro);
  macro.body = parse_block(end);
  open_macros_.pop_back();
  loops_ = outer_loops;
}

const Statement* Parser::parse_macro() {
  const int line = next().line;
  Macro& macro = open_macro(expect_name());
  macro.parameters = parse_parameters();
  parse_macro_body(macro, "endmacro");
  return statement(line, MacroDefinition{&macro});
}

const Statement* Parser::parse_call_block() {
  const int line = next().line;
  Macro& caller = open_macro("caller");
  if (is_operator("(")) caller.parameters = parse_parameters();
  const Expr call = parse_expression();
  if (!std::holds_alternative<Call>(call->node)) fail("line {}: call: expected a call", line);
  parse_macro_body(caller, "endcall");
  return statement(line, CallBlock{&caller, call});
}

// | name(arguments) | name …; in a filter block the first has no bar.
std::vector<Filter> Parser::parse_filters(bool first_without_pipe) {
  std::vector<Filter> filters;
  while (first_without_pipe || skip_operator("|")) {
    first_without_pipe = false;
    Filter filter;
    filter.name = parse_dotted_name();
    filter.native = find_filter(filter.name);
    if (is_operator("(")) filter.arguments = parse_arguments();
    filters.push_back(std::move(filter));
  }
  return filters;
}

const Statement* Parser::parse_filter_block() {
  const int line = next().line;
  FilterBlock node{parse_filters(true), {}};
  node.body = parse_block("endfilter");
  return statement(line, std::move(node));
}

const Statement* Parser::parse_loop_control() {
  const Token& token = next();
  if (loops_ == 0) fail("line {}: '{}' outside a loop", token.line, token.text);
  return token.text == "break" ? statement(token.line, Break{}) : statement(token.line, Continue{});
}

}  // namespace tandem::chat::jinja
