// The syntax tree of a template. Nodes point to their children; the Program owns them all in flat
// lists, so that freeing a deep tree takes no recursion.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja/operations.h"
#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

using Symbol = std::uint32_t;  // index into Program::names
using Expr = const Expression*;
struct Statement;
using Body = std::vector<const Statement*>;

struct CallArguments {
  std::vector<Expr> positional;
  std::vector<std::pair<std::string, Expr>> named;
  Expr more_positional = nullptr;  // *args
  Expr more_named = nullptr;       // **kwargs
};

struct Literal {
  Value value;
};
struct Name {
  Symbol symbol;
  std::string text;  // for messages
};
struct ListDisplay {
  std::vector<Expr> items;
  bool is_tuple;
};
struct DictDisplay {
  std::vector<std::pair<Expr, Expr>> entries;
};
struct Attribute {
  Expr object;
  std::string name;
};
struct Index {
  Expr object, key;
};
struct Slice {
  Expr object, start, stop, step;  // null where left out
};
struct Call {
  Expr callee;
  CallArguments arguments;
};
struct FilterCall {
  Expr input;
  std::string name;
  Native native;  // null: unknown, an error once it is reached
  CallArguments arguments;
};
struct TestCall {
  Expr input;
  std::string name;
  Native native;
  CallArguments arguments;
};
enum class UnaryOperator { kNot, kMinus, kPlus };
struct Unary {
  UnaryOperator operation;
  Expr operand;
};
struct Binary {
  BinaryOperator operation;
  Expr left, right;
};
struct Logical {
  bool is_and;
  Expr left, right;
};
struct Concatenation {
  std::vector<Expr> parts;
};
enum class Comparison {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
struct Compare {
  Expr first;
  std::vector<std::pair<Comparison, Expr>> rest;
};
struct Conditional {
  Expr condition, then, otherwise;  // otherwise null: undefined
};

struct Expression {
  int line;
  std::variant<Literal, Name, ListDisplay, DictDisplay, Attribute, Index, Slice, Call, FilterCall,
               TestCall, Unary, Binary, Logical, Concatenation, Compare, Conditional>
      node;
};

// What an assignment writes to: a name, ns.attribute, or several of them.
struct Target {
  Symbol name = 0;
  std::string attribute = {};  // not empty: name.attribute of a namespace
  std::vector<Target> parts = {};
  bool is_tuple = false;
};

struct Parameter {
  Symbol name;
  Expr fallback;  // null: undefined
};

struct Macro {
  std::string name;
  Symbol symbol = 0;
  std::vector<Parameter> parameters;
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct Filter {
  std::string name;
  Native native;
  CallArguments arguments;
};

struct Data {
  std::string text;
};
struct Output {
  Expr value;
};
struct If {
  struct Branch {
    Expr condition;
    Body body;
  };
  std::vector<Branch> branches;
  Body otherwise;
};
struct For {
  Target target;
  Expr items;
  Expr condition;  // null: all items
  Body body, otherwise;
  bool uses_loop;  // the body mentions `loop`
};
struct Set {
  Target target;
  Expr value;
};
struct SetBlock {
  Target target;
  std::vector<Filter> filters;
  Body body;
};
struct With {
  std::vector<std::pair<Target, Expr>> assignments;
  Body body;
};
struct MacroDefinition {
  const Macro* macro;
};
struct CallBlock {
  const Macro* caller;
  Expr call;  // a Call
};
struct FilterBlock {
  std::vector<Filter> filters;
  Body body;
};
struct ScopedBlock {  // {% generation %}: marks the assistant's text for training, here only a
                      // scope
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Data, Output, If, For, Set, SetBlock, With, MacroDefinition, CallBlock, FilterBlock,
               ScopedBlock, Break, Continue>
      node;
};

struct Program {
  std::vector<std::string> names;
  Body body;
  std::deque<Expression> expressions;
  std::deque<Statement> statements;
  std::deque<Macro> macros;
  // Symbols with a meaning of their own.
  Symbol loop = 0, caller = 0, varargs = 0, kwargs = 0;
};

}  // namespace tandem::chat::jinja
