// Statements, scopes and macros.
#include <algorithm>

#include "chat/jinja/attributes.h"
#include "chat/jinja/evaluator.h"
#include "chat/jinja/print.h"

namespace tandem::chat::jinja {

Evaluator::InnerScope::InnerScope(Evaluator& evaluator, Scope* parent)
    : evaluator_(evaluator), outer_(evaluator.scope_) {
  if (evaluator_.free_scopes_.empty()) {
    evaluator_.runtime_.meter.take(sizeof(Scope));
    scope_ = &evaluator_.scopes_.emplace_back();
  } else {
    scope_ = evaluator_.free_scopes_.back();
    evaluator_.free_scopes_.pop_back();
  }
  scope_->parent = parent;
  evaluator_.scope_ = scope_;
}

Evaluator::InnerScope::~InnerScope() {
  evaluator_.scope_ = outer_;
  if (scope_->captured) return;
  scope_->values.clear();
  evaluator_.free_scopes_.push_back(scope_);
}

const Value* Evaluator::lookup(Symbol name) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    for (const auto& [symbol, value] : scope->values) {
      if (symbol == name) return &value;
    }
  }
  return names_[name] ? &*names_[name] : nullptr;
}

void Evaluator::assign(Symbol name, Value value) {
  if (scope_ == nullptr) {
    names_[name] = std::move(value);
    return;
  }
  for (auto& [symbol, old] : scope_->values) {
    if (symbol == name) {
      old = std::move(value);
      return;
    }
  }
  scope_->values.emplace_back(name, std::move(value));
}

void Evaluator::assign(const Target& target, Value value) {
  if (!target.attribute.empty()) {
    const Value* object = lookup(target.name);
    const auto* space = object == nullptr ? nullptr : std::get_if<Namespace*>(object);
    if (space == nullptr) {
      fail("cannot assign attribute '{}': '{}' is no namespace", target.attribute,
           program_.names[target.name]);
    }
    (*space)->attributes->set(runtime_.heap.text(target.attribute), std::move(value));
    return;
  }
  if (!target.is_tuple) return assign(target.name, std::move(value));
  std::vector<Value> items = iterate(value, runtime_);
  if (items.size() != target.parts.size()) {
    fail("cannot unpack {} values into {} names", items.size(), target.parts.size());
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(target.parts[i], std::move(items[i]));
}

Evaluator::Flow Evaluator::execute(const Body& body) {
  const Level level(*this);
  for (const Statement* statement : body) {
    runtime_.meter.step();
    line_ = statement->line;
    const Flow flow =
        std::visit([this](const auto& node) { return run_statement(node); }, statement->node);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const Data& node) {
  out_->append(node.text);
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const Output& node) {
  print(evaluate(node.value), *out_);
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const If& node) {
  for (const If::Branch& branch : node.branches) {
    if (truthy(evaluate(branch.condition))) return execute(branch.body);
  }
  return execute(node.otherwise);
}

// A condition is asked item by item, between the iterations, unless the body needs to know the
// items ahead.
Evaluator::Flow Evaluator::run_statement(const For& node) {
  std::vector<Value> items =
      node.uses_loop ? admitted_items(node) : iterate(evaluate(node.items), runtime_);
  runtime_.meter.take(items.size() * sizeof(Value));
  const std::size_t count = items.size();
  bool completed = false;  // as in Jinja, `else` also runs when every iteration was cut short
  {
    Loop* loop = nullptr;
    if (node.uses_loop) {
      loop = runtime_.heap.loop();
      loop->items = std::move(items);
      loop->count = count;
      loop->depth = 1;
    }
    InnerScope scope(*this, scope_);
    for (std::size_t i = 0; i < count; ++i) {
      runtime_.meter.step();
      scope.clear();
      assign(node.target, loop != nullptr ? loop->items[i] : items[i]);
      if (loop != nullptr) {
        loop->index = i;
        assign(program_.loop, loop);
      } else if (node.condition != nullptr && !truthy(evaluate(node.condition))) {
        continue;
      }
      const Flow flow = execute(node.body);
      if (flow == Flow::kBreak) break;
      completed = completed || flow == Flow::kNext;
    }
    if (loop != nullptr) loop->items.clear();
  }
  runtime_.meter.give_back(count * sizeof(Value));
  if (!completed && !node.otherwise.empty()) {
    const InnerScope scope(*this, scope_);
    return execute(node.otherwise);
  }
  return Flow::kNext;
}

std::vector<Value> Evaluator::admitted_items(const For& node) {
  std::vector<Value> items = iterate(evaluate(node.items), runtime_);
  if (node.condition == nullptr) return items;
  const InnerScope scope(*this, scope_);
  const auto rejected = [&](const Value& item) {
    assign(node.target, item);
    return !truthy(evaluate(node.condition));
  };
  items.erase(std::remove_if(items.begin(), items.end(), rejected), items.end());
  return items;
}

Evaluator::Flow Evaluator::run_statement(const Set& node) {
  assign(node.target, evaluate(node.value));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const SetBlock& node) {
  std::string text;
  {
    Capture capture(*this);
    const InnerScope scope(*this, scope_);
    const Flow flow = execute(node.body);
    if (flow != Flow::kNext) return flow;
    text = capture.take();
  }
  assign(node.target, filtered(node.filters, runtime_.heap.text(std::move(text))));
  return Flow::kNext;
}

// The values see the names outside, not each other.
Evaluator::Flow Evaluator::run_statement(const With& node) {
  std::vector<Value> values;
  for (const auto& assignment : node.assignments) values.push_back(evaluate(assignment.second));
  const InnerScope scope(*this, scope_);
  for (std::size_t i = 0; i < values.size(); ++i)
    assign(node.assignments[i].first, std::move(values[i]));
  return execute(node.body);
}

Value Evaluator::define(const Macro& macro) {
  for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent)
    scope->captured = true;
  return runtime_.heap.function({.name = macro.name, .macro = &macro, .scope = scope_});
}

Evaluator::Flow Evaluator::run_statement(const MacroDefinition& node) {
  assign(node.macro->symbol, define(*node.macro));
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const CallBlock& node) {
  const Value caller = define(*node.caller);
  print(call_with(std::get<Call>(node.call->node), &caller), *out_);
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const FilterBlock& node) {
  std::string text;
  {
    Capture capture(*this);
    const InnerScope scope(*this, scope_);
    const Flow flow = execute(node.body);
    if (flow != Flow::kNext) return flow;
    text = capture.take();
  }
  print(filtered(node.filters, runtime_.heap.text(std::move(text))), *out_);
  return Flow::kNext;
}

Evaluator::Flow Evaluator::run_statement(const ScopedBlock& node) {
  const InnerScope scope(*this, scope_);
  return execute(node.body);
}

Evaluator::Flow Evaluator::run_statement(const Break&) { return Flow::kBreak; }
Evaluator::Flow Evaluator::run_statement(const Continue&) { return Flow::kContinue; }

Value Evaluator::filtered(const std::vector<Filter>& filters, Value value) {
  for (const Filter& filter : filters) {
    value = call_named(filter.native, "filter", filter.name, value, arguments_of(filter.arguments));
  }
  return value;
}

Value Evaluator::call_macro(const Function& function, const Arguments& arguments) {
  const Level level(*this);
  Capture capture(*this);
  const InnerScope scope(*this, function.scope);
  bind_parameters(*function.macro, arguments);
  execute(function.macro->body);
  return runtime_.heap.text(capture.take());
}

void Evaluator::bind_parameters(const Macro& macro, const Arguments& arguments) {
  const auto& parameters = macro.parameters;
  std::vector<const Value*> bound(parameters.size(), nullptr);
  for (std::size_t i = 0; i < std::min(parameters.size(), arguments.positional.size()); ++i) {
    bound[i] = &arguments.positional[i];
  }
  Dict* rest = macro.uses_kwargs ? runtime_.heap.dict() : nullptr;
  for (const auto& [name, value] : arguments.named) {
    const auto known = std::find_if(
        parameters.begin(), parameters.end(),
        [&](const Parameter& parameter) { return program_.names[parameter.name] == name; });
    const auto index = static_cast<std::size_t>(known - parameters.begin());
    if (known != parameters.end() && bound[index] == nullptr) {
      bound[index] = &value;
    } else if (name == "caller" && macro.uses_caller) {
      assign(program_.caller, value);
    } else if (rest != nullptr) {
      rest->set(runtime_.heap.text(name), value);
    } else {
      fail("macro '{}' takes no keyword argument '{}'", macro.name, name);
    }
  }
  if (macro.uses_varargs) {
    std::vector<Value> more;
    for (std::size_t i = parameters.size(); i < arguments.positional.size(); ++i)
      more.push_back(arguments.positional[i]);
    assign(program_.varargs, runtime_.heap.tuple(std::move(more)));
  } else if (arguments.positional.size() > parameters.size()) {
    fail("macro '{}' takes not more than {} arguments", macro.name, parameters.size());
  }
  if (rest != nullptr) assign(program_.kwargs, rest);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (bound[i] != nullptr) {
      assign(parameters[i].name, *bound[i]);
    } else {
      assign(parameters[i].name, parameters[i].fallback == nullptr
                                     ? Value(Undefined{})
                                     : evaluate(parameters[i].fallback));
    }
  }
}

}  // namespace tandem::chat::jinja
