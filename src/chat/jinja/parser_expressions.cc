// Expressions. Chains such as a + b + c grow to the left in loops; the evaluator bounds how deep
// they may get.
#include <algorithm>
#include <optional>

#include "chat/jinja/functions.h"
#include "chat/jinja/parser.h"
#include "chat/jinja/text_tools.h"

namespace tandem::chat::jinja {

// Commas make a tuple; without brackets an empty one is no expression.
Expr Parser::parse_tuple(bool with_conditional, bool may_be_empty) {
  const int line = current().line;
  std::vector<Expr> items;
  bool is_tuple = false;
  const auto at_end = [this] {
    return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
           is_operator(")");
  };
  while (!at_end()) {
    items.push_back(with_conditional ? parse_expression() : parse_or());
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items.front();
  if (items.empty() && !may_be_empty)
    fail("line {}: expected an expression, got {}", line, describe(current()));
  return expression(line, ListDisplay{std::move(items), true});
}

Expr Parser::parse_expression() {
  const Nesting nesting(*this);
  const int line = current().line;
  Expr value = parse_or();
  while (skip_word("if")) {
    Conditional node{parse_or(), value, nullptr};
    if (skip_word("else")) node.otherwise = parse_expression();
    value = expression(line, node);
  }
  return value;
}

Expr Parser::parse_or() {
  Expr left = parse_and();
  while (is_word("or")) {
    const int line = next().line;
    left = expression(line, Logical{false, left, parse_and()});
  }
  return left;
}

Expr Parser::parse_and() {
  Expr left = parse_not();
  while (is_word("and")) {
    const int line = next().line;
    left = expression(line, Logical{true, left, parse_not()});
  }
  return left;
}

Expr Parser::parse_not() {
  if (!is_word("not")) return parse_compare();
  const Nesting nesting(*this);
  const int line = next().line;
  return expression(line, Unary{UnaryOperator::kNot, parse_not()});
}

Expr Parser::parse_compare() {
  struct Sign {
    std::string_view spelling;
    Comparison comparison;
  };
  static constexpr Sign kSigns[] = {
      {"==", Comparison::kEqual},  {"!=", Comparison::kNotEqual},
      {"<", Comparison::kLess},    {"<=", Comparison::kLessEqual},
      {">", Comparison::kGreater}, {">=", Comparison::kGreaterEqual},
  };
  const auto comparison = [this]() -> std::optional<Comparison> {
    for (const Sign& sign : kSigns) {
      if (skip_operator(sign.spelling)) return sign.comparison;
    }
    if (skip_word("in")) return Comparison::kIn;
    const bool not_in =
        is_word("not") && following().kind == TokenKind::kName && following().text == "in";
    if (!not_in) return std::nullopt;
    next();
    next();
    return Comparison::kNotIn;
  };
  const int line = current().line;
  Compare node{parse_sum(), {}};
  while (const auto sign = comparison()) node.rest.emplace_back(*sign, parse_sum());
  return node.rest.empty() ? node.first : expression(line, std::move(node));
}

Expr Parser::parse_sum() {
  Expr left = parse_concatenation();
  while (is_operator("+") || is_operator("-")) {
    const Token& sign = next();
    const BinaryOperator operation =
        sign.text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    left = expression(sign.line, Binary{operation, left, parse_concatenation()});
  }
  return left;
}

Expr Parser::parse_concatenation() {
  const int line = current().line;
  Concatenation node;
  node.parts.push_back(parse_product());
  while (skip_operator("~")) node.parts.push_back(parse_product());
  return node.parts.size() == 1 ? node.parts.front() : expression(line, std::move(node));
}

Expr Parser::parse_product() {
  const auto operation = [this]() -> std::optional<BinaryOperator> {
    if (is_operator("*")) return BinaryOperator::kMultiply;
    if (is_operator("/")) return BinaryOperator::kDivide;
    if (is_operator("//")) return BinaryOperator::kFloorDivide;
    if (is_operator("%")) return BinaryOperator::kModulo;
    return std::nullopt;
  };
  Expr left = parse_power();
  while (const auto sign = operation()) {
    const int line = next().line;
    left = expression(line, Binary{*sign, left, parse_power()});
  }
  return left;
}

Expr Parser::parse_power() {
  Expr left = parse_unary(true);
  while (is_operator("**")) {
    const int line = next().line;
    left = expression(line, Binary{BinaryOperator::kPower, left, parse_unary(true)});
  }
  return left;
}

// A sign binds tighter than a filter: -1|abs is (-1)|abs.
Expr Parser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  Expr value;
  if (is_operator("-") || is_operator("+")) {
    const Token& sign = next();
    const UnaryOperator operation = sign.text == "-" ? UnaryOperator::kMinus : UnaryOperator::kPlus;
    value = expression(sign.line, Unary{operation, parse_unary(false)});
  } else {
    value = parse_primary();
  }
  value = parse_postfix(value);
  return with_filters ? parse_filters_and_tests(value) : value;
}

Expr Parser::parse_primary() {
  switch (current().kind) {
    case TokenKind::kName:
      return parse_name();
    case TokenKind::kString:
      return parse_string();
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    default:
      break;
  }
  if (is_operator("[")) return parse_list();
  if (is_operator("{")) return parse_dict();
  if (!skip_operator("(")) fail("line {}: unexpected {}", current().line, describe(current()));
  const Expr value = parse_tuple(true, true);
  expect_operator(")");
  return value;
}

Expr Parser::parse_name() {
  const Token& token = next();
  if (token.text == "true" || token.text == "True") return expression(token.line, Literal{true});
  if (token.text == "false" || token.text == "False") return expression(token.line, Literal{false});
  if (token.text == "none" || token.text == "None") return expression(token.line, Literal{None{}});
  const Symbol name = symbol(token.text);
  if (name == program_->loop) ++loop_mentions_;
  for (Macro* macro : open_macros_) {
    macro->uses_caller |= name == program_->caller;
    macro->uses_varargs |= name == program_->varargs;
    macro->uses_kwargs |= name == program_->kwargs;
  }
  return expression(token.line, Name{name, token.text});
}

Expr Parser::parse_number() {
  const Token& token = next();
  if (token.kind == TokenKind::kFloat) {
    const auto number = parse_float(token.text);
    if (!number) fail("line {}: bad number {}", token.line, token.text);
    return expression(token.line, Literal{*number});
  }
  const auto integer = parse_integer(token.text, 0);
  if (!integer) fail("line {}: bad number {}", token.line, token.text);
  return expression(token.line, Literal{*integer});
}

Expr Parser::parse_string() {
  const int line = current().line;
  std::string text;
  while (current().kind == TokenKind::kString) text += next().text;
  return expression(line, Literal{Text(std::move(text))});
}

Expr Parser::parse_list() {
  const int line = next().line;
  std::vector<Expr> items;
  while (!is_operator("]")) {
    items.push_back(parse_expression());
    if (!skip_operator(",") && !is_operator("]")) unexpected(current(), "',' or ']'");
  }
  next();
  return expression(line, ListDisplay{std::move(items), false});
}

Expr Parser::parse_dict() {
  const int line = next().line;
  DictDisplay node;
  while (!is_operator("}")) {
    const Expr key = parse_expression();
    expect_operator(":");
    node.entries.emplace_back(key, parse_expression());
    if (!skip_operator(",") && !is_operator("}")) unexpected(current(), "',' or '}'");
  }
  next();
  return expression(line, std::move(node));
}

Expr Parser::parse_postfix(Expr value) {
  for (;;) {
    if (is_operator(".") || is_operator("[")) {
      value = parse_subscript(value);
    } else if (is_operator("(")) {
      const int line = current().line;
      value = expression(line, Call{value, parse_arguments()});
    } else {
      return value;
    }
  }
}

Expr Parser::parse_filters_and_tests(Expr value) {
  for (;;) {
    const int line = current().line;
    if (skip_operator("|")) {
      FilterCall node{value, parse_dotted_name(), nullptr, {}};
      node.native = find_filter(node.name);
      if (is_operator("(")) node.arguments = parse_arguments();
      value = expression(line, std::move(node));
    } else if (is_word("is")) {
      value = parse_test(value);
    } else if (is_operator("(")) {
      value = expression(line, Call{value, parse_arguments()});
    } else {
      return value;
    }
  }
}

Expr Parser::parse_subscript(Expr object) {
  const int line = current().line;
  if (skip_operator("[")) {
    const Expr value = parse_bracketed(object);
    expect_operator("]");
    return value;
  }
  next();  // the dot
  if (current().kind == TokenKind::kName) return expression(line, Attribute{object, next().text});
  if (current().kind != TokenKind::kInteger) unexpected(current(), "a name or a number after '.'");
  return expression(line, Index{object, parse_number()});
}

// What stands between [ and ]: a key, several (a tuple), or a slice.
Expr Parser::parse_bracketed(Expr object) {
  const int line = current().line;
  const auto part = [this]() -> Expr {
    return is_operator(":") || is_operator("]") ? nullptr : parse_expression();
  };
  const Expr first = part();
  if (skip_operator(":")) {
    Slice node{object, first, part(), nullptr};
    if (skip_operator(":")) node.step = part();
    return expression(line, node);
  }
  if (first == nullptr) fail("line {}: expected an index", line);
  if (!is_operator(",")) return expression(line, Index{object, first});
  std::vector<Expr> keys{first};
  while (skip_operator(",")) keys.push_back(parse_expression());
  return expression(line, Index{object, expression(line, ListDisplay{std::move(keys), true})});
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_name();
  while (skip_operator(".")) name.append(".").append(expect_name());
  return name;
}

// One argument may follow a test's name without brackets: x is divisibleby 3.
Expr Parser::parse_test(Expr input) {
  const int line = next().line;
  const bool negated = skip_word("not");
  TestCall node{input, parse_dotted_name(), nullptr, {}};
  node.native = find_test(node.name);
  const bool literal = current().kind == TokenKind::kString ||
                       current().kind == TokenKind::kInteger ||
                       current().kind == TokenKind::kFloat || is_operator("[") || is_operator("{");
  const bool name =
      current().kind == TokenKind::kName && !is_word("else") && !is_word("or") && !is_word("and");
  if (is_operator("(")) {
    node.arguments = parse_arguments();
  } else if (literal || name) {
    if (is_word("is")) fail("line {}: tests cannot be chained with 'is'", line);
    node.arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  const Expr test = expression(line, std::move(node));
  return negated ? expression(line, Unary{UnaryOperator::kNot, test}) : test;
}

CallArguments Parser::parse_arguments() {
  const int line = current().line;
  CallArguments arguments;
  const auto require = [line](bool holds) {
    if (!holds) fail("line {}: invalid order of call arguments", line);
  };
  expect_operator("(");
  while (!is_operator(")")) {
    if (skip_operator("*")) {
      require(arguments.more_positional == nullptr && arguments.more_named == nullptr);
      arguments.more_positional = parse_expression();
    } else if (skip_operator("**")) {
      require(arguments.more_named == nullptr);
      arguments.more_named = parse_expression();
    } else if (current().kind == TokenKind::kName && following().kind == TokenKind::kOperator &&
               following().text == "=") {
      require(arguments.more_named == nullptr);
      std::string name = next().text;
      next();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else {
      require(arguments.named.empty() && arguments.more_positional == nullptr &&
              arguments.more_named == nullptr);
      arguments.positional.push_back(parse_expression());
    }
    if (!is_operator(")")) expect_operator(",");
  }
  next();
  return arguments;
}

}  // namespace tandem::chat::jinja
