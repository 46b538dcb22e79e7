// Runs a program: one object per rendering, walking the tree within the limits of meter.h.
#pragma once

#include <ctime>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/object.hpp>

#include "chat/jinja/ast.h"
#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

// Names assigned inside a loop, macro or block. Lexical: a macro sees where it was defined, not
// where it is called.
struct Scope {
  Scope* parent;  // null: the template's own names come next
  std::vector<std::pair<Symbol, Value>> values;
  bool captured = false;  // a macro was defined inside and may outlive the block
};

class Evaluator {
 public:
  Evaluator(const Program& program, const boost::json::object& context, const std::tm& now);

  // Throws TemplateError.
  std::string run();
  int line() const { return line_; }  // what was being evaluated last

 private:
  enum class Flow { kNext, kBreak, kContinue };
  class Level;
  class InnerScope;
  class Capture;

  // evaluator.cc: expressions
  Value evaluate(Expr expression);
  Value value_of(const Literal& node, const Expression& expression);
  Value value_of(const Name& node, const Expression& expression);
  Value value_of(const ListDisplay& node, const Expression& expression);
  Value value_of(const DictDisplay& node, const Expression& expression);
  Value value_of(const Attribute& node, const Expression& expression);
  Value value_of(const Index& node, const Expression& expression);
  Value value_of(const Slice& node, const Expression& expression);
  Value value_of(const Call& node, const Expression& expression);
  Value value_of(const FilterCall& node, const Expression& expression);
  Value value_of(const TestCall& node, const Expression& expression);
  Value value_of(const Unary& node, const Expression& expression);
  Value value_of(const Binary& node, const Expression& expression);
  Value value_of(const Logical& node, const Expression& expression);
  Value value_of(const Concatenation& node, const Expression& expression);
  Value value_of(const Compare& node, const Expression& expression);
  Value value_of(const Conditional& node, const Expression& expression);
  Value evaluate_or_none(Expr expression);
  bool compare(Comparison comparison, const Value& a, const Value& b);
  Arguments arguments_of(const CallArguments& node);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_with(const Call& node, const Value* caller);
  Value call_named(Native native, std::string_view kind, std::string_view name, const Value& self,
                   const Arguments& arguments);

  // statements.cc
  Flow execute(const Body& body);
  Flow run_statement(const Data& node);
  Flow run_statement(const Output& node);
  Flow run_statement(const If& node);
  Flow run_statement(const For& node);
  Flow run_statement(const Set& node);
  Flow run_statement(const SetBlock& node);
  Flow run_statement(const With& node);
  Flow run_statement(const MacroDefinition& node);
  Flow run_statement(const CallBlock& node);
  Flow run_statement(const FilterBlock& node);
  Flow run_statement(const ScopedBlock& node);
  Flow run_statement(const Break& node);
  Flow run_statement(const Continue& node);
  std::vector<Value> admitted_items(const For& node);
  Value define(const Macro& macro);
  Value call_macro(const Function& function, const Arguments& arguments);
  void bind_parameters(const Macro& macro, const Arguments& arguments);
  Value filtered(const std::vector<Filter>& filters, Value value);

  const Value* lookup(Symbol name) const;
  void assign(Symbol name, Value value);
  void assign(const Target& target, Value value);

  Runtime runtime_;  // first: everything below holds values it counts
  const Program& program_;
  std::vector<std::optional<Value>> names_;  // the template's own, by symbol
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  Scope* scope_ = nullptr;
  TextBuilder* out_ = nullptr;
  int depth_ = 0;
  int line_ = 0;
};

// One level of evaluation, for as long as it lives.
class Evaluator::Level {
 public:
  explicit Level(Evaluator& evaluator) : evaluator_(evaluator) {
    if (++evaluator_.depth_ > kMaxDepth) {
      --evaluator_.depth_;
      fail("evaluation nested more than {} deep (endless recursion?)", kMaxDepth);
    }
  }
  Level(const Level&) = delete;
  ~Level() { --evaluator_.depth_; }

 private:
  Evaluator& evaluator_;
};

// Makes a scope current. Its storage is used again unless a macro captured it.
class Evaluator::InnerScope {
 public:
  InnerScope(Evaluator& evaluator, Scope* parent);
  InnerScope(const InnerScope&) = delete;
  ~InnerScope();

  // Forgets what the previous iteration assigned.
  void clear() { scope_->values.clear(); }

 private:
  Evaluator& evaluator_;
  Scope* outer_;
  Scope* scope_;
};

// Collects output instead of printing it.
class Evaluator::Capture {
 public:
  explicit Capture(Evaluator& evaluator)
      : evaluator_(evaluator), outer_(evaluator.out_), text_(evaluator.runtime_.meter) {
    evaluator_.out_ = &text_;
  }
  Capture(const Capture&) = delete;
  ~Capture() { evaluator_.out_ = outer_; }

  std::string take() { return text_.take(); }

 private:
  Evaluator& evaluator_;
  TextBuilder* outer_;
  TextBuilder text_;
};

}  // namespace tandem::chat::jinja
