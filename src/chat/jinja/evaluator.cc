// Expressions.
#include "chat/jinja/evaluator.h"

#include "chat/jinja/attributes.h"
#include "chat/jinja/functions.h"
#include "chat/jinja/json.h"
#include "chat/jinja/print.h"

namespace tandem::chat::jinja {

Evaluator::Evaluator(const Program& program, const boost::json::object& context, const std::tm& now)
    : runtime_(now), program_(program), names_(program.names.size()) {
  for (std::size_t i = 0; i < program.names.size(); ++i) {
    const std::string& name = program.names[i];
    if (const auto* value = context.if_contains(name)) {
      names_[i] = from_json(*value, runtime_);
    } else if (const Native native = find_global(name)) {
      names_[i] = runtime_.heap.function({.name = name, .native = native});
    }
  }
}

std::string Evaluator::run() {
  TextBuilder out(runtime_.meter);
  out_ = &out;
  execute(program_.body);
  return out.take();
}

Value Evaluator::evaluate(Expr expression) {
  const Level level(*this);
  runtime_.meter.step();
  line_ = expression->line;
  return std::visit([&](const auto& node) { return value_of(node, *expression); },
                    expression->node);
}

Value Evaluator::evaluate_or_none(Expr expression) {
  return expression == nullptr ? Value(None{}) : evaluate(expression);
}

Value Evaluator::value_of(const Literal& node, const Expression&) { return node.value; }

Value Evaluator::value_of(const Name& node, const Expression& expression) {
  const Value* value = lookup(node.symbol);
  return value == nullptr ? Value(Undefined{&expression}) : *value;
}

Value Evaluator::value_of(const ListDisplay& node, const Expression&) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const Expr item : node.items) items.push_back(evaluate(item));
  return runtime_.heap.sequence(node.is_tuple ? SequenceKind::kTuple : SequenceKind::kList,
                                std::move(items));
}

Value Evaluator::value_of(const DictDisplay& node, const Expression&) {
  Dict* dict = runtime_.heap.dict();
  for (const auto& [key, value] : node.entries) {
    Value name = evaluate(key);
    dict->set(std::move(name), evaluate(value));
  }
  return dict;
}

Value Evaluator::value_of(const Attribute& node, const Expression& expression) {
  return attribute(evaluate(node.object), node.name, &expression, runtime_);
}

Value Evaluator::value_of(const Index& node, const Expression& expression) {
  const Value object = evaluate(node.object);
  return subscript(object, evaluate(node.key), &expression, runtime_);
}

Value Evaluator::value_of(const Slice& node, const Expression&) {
  const Value object = evaluate(node.object);
  SliceBounds bounds;
  bounds.start = evaluate_or_none(node.start);
  bounds.stop = evaluate_or_none(node.stop);
  bounds.step = evaluate_or_none(node.step);
  if (const auto* undefined = std::get_if<Undefined>(&object)) fail_undefined(*undefined);
  return slice(object, bounds, runtime_);
}

Value Evaluator::value_of(const Call& node, const Expression&) { return call_with(node, nullptr); }

Value Evaluator::value_of(const FilterCall& node, const Expression& expression) {
  const Value input = evaluate(node.input);
  const Arguments arguments = arguments_of(node.arguments);
  line_ = expression.line;
  return call_named(node.native, "filter", node.name, input, arguments);
}

Value Evaluator::value_of(const TestCall& node, const Expression& expression) {
  const Value input = evaluate(node.input);
  const Arguments arguments = arguments_of(node.arguments);
  line_ = expression.line;
  return call_named(node.native, "test", node.name, input, arguments);
}

Value Evaluator::value_of(const Unary& node, const Expression&) {
  const Value operand = evaluate(node.operand);
  if (node.operation == UnaryOperator::kNot) return !truthy(operand);
  if (const auto* undefined = std::get_if<Undefined>(&operand)) fail_undefined(*undefined);
  return node.operation == UnaryOperator::kMinus ? negate(operand) : plus_sign(operand);
}

Value Evaluator::value_of(const Binary& node, const Expression& expression) {
  const Value left = evaluate(node.left);
  const Value right = evaluate(node.right);
  line_ = expression.line;
  const bool formats =
      node.operation == BinaryOperator::kModulo && is<Text>(left);  // may show undefined
  for (const Value* side : {&left, &right}) {
    if (const auto* undefined = std::get_if<Undefined>(side); undefined != nullptr && !formats) {
      fail_undefined(*undefined);
    }
  }
  return apply(node.operation, left, right, runtime_);
}

Value Evaluator::value_of(const Logical& node, const Expression&) {
  Value left = evaluate(node.left);
  return truthy(left) == node.is_and ? evaluate(node.right) : left;
}

Value Evaluator::value_of(const Concatenation& node, const Expression&) {
  TextBuilder out(runtime_.meter);
  for (const Expr part : node.parts) print(evaluate(part), out);
  return runtime_.heap.text(out.take());
}

Value Evaluator::value_of(const Compare& node, const Expression& expression) {
  Value left = evaluate(node.first);
  for (const auto& [comparison, operand] : node.rest) {
    Value right = evaluate(operand);
    line_ = expression.line;
    if (!compare(comparison, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::value_of(const Conditional& node, const Expression& expression) {
  if (truthy(evaluate(node.condition))) return evaluate(node.then);
  return node.otherwise == nullptr ? Value(Undefined{&expression}) : evaluate(node.otherwise);
}

bool Evaluator::compare(Comparison comparison, const Value& a, const Value& b) {
  Meter& meter = runtime_.meter;
  switch (comparison) {
    case Comparison::kEqual:
      return equal(a, b, meter);
    case Comparison::kNotEqual:
      return !equal(a, b, meter);
    case Comparison::kIn:
      return contains(b, a, runtime_);
    case Comparison::kNotIn:
      return !contains(b, a, runtime_);
    default:
      break;
  }
  for (const Value* side : {&a, &b}) {
    if (const auto* undefined = std::get_if<Undefined>(side)) fail_undefined(*undefined);
  }
  switch (comparison) {
    case Comparison::kLess:
      return less(a, b, meter);
    case Comparison::kGreater:
      return less(b, a, meter);
    case Comparison::kLessEqual:
      return less(a, b, meter) || equal(a, b, meter);
    default:
      return less(b, a, meter) || equal(a, b, meter);
  }
}

Arguments Evaluator::arguments_of(const CallArguments& node) {
  Arguments arguments;
  arguments.positional.reserve(node.positional.size());
  for (const Expr value : node.positional) arguments.positional.push_back(evaluate(value));
  for (const auto& [name, value] : node.named) arguments.named.emplace_back(name, evaluate(value));
  if (node.more_positional != nullptr) {
    for (Value& value : iterate(evaluate(node.more_positional), runtime_))
      arguments.positional.push_back(std::move(value));
  }
  if (node.more_named != nullptr) {
    const Value more = evaluate(node.more_named);
    const auto* dict = std::get_if<Dict*>(&more);
    if (dict == nullptr) fail("argument after ** must be a mapping, not {}", type_name(more));
    for (const auto& [name, value] : (*dict)->entries()) {
      if (!is<Text>(name)) fail("keywords must be strings");
      arguments.named.emplace_back(std::get<Text>(name).view(), value);
    }
  }
  return arguments;
}

// A method is called without making a function object of it first. caller: the body of a call
// block.
Value Evaluator::call_with(const Call& node, const Value* caller) {
  const auto evaluated = [&] {
    Arguments arguments = arguments_of(node.arguments);
    if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
    line_ = node.callee->line;
    return arguments;
  };
  const auto* member = std::get_if<Attribute>(&node.callee->node);
  if (member == nullptr) {
    const Value callee = evaluate(node.callee);
    return call(callee, evaluated());
  }
  const Value object = evaluate(member->object);
  if (const NativeEntry* method = find_method(object, member->name)) {
    return call_named(method->native, "method", member->name, object, evaluated());
  }
  const Value callee = attribute(object, member->name, node.callee, runtime_);
  return call(callee, evaluated());
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  if (const auto* undefined = std::get_if<Undefined>(&callee)) fail_undefined(*undefined);
  const auto* function = std::get_if<Function*>(&callee);
  if (function == nullptr) fail("'{}' object is not callable", type_name(callee));
  if ((*function)->macro != nullptr) return call_macro(**function, arguments);
  return call_native((*function)->native, runtime_, (*function)->self, arguments);
}

Value Evaluator::call_named(Native native, std::string_view kind, std::string_view name,
                            const Value& self, const Arguments& arguments) {
  if (native == nullptr) fail("there is no {} named '{}'", kind, name);
  try {
    return call_native(native, runtime_, self, arguments);
  } catch (const TemplateError& error) {
    fail("{} '{}': {}", kind, name, error.message);
  }
}

}  // namespace tandem::chat::jinja
