// The tests behind `is`, and behind select and its relatives.
#include "chat/jinja/functions.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/text_tools.h"

namespace tandem::chat::jinja {
namespace {

template <typename T>
Value holds(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is<T>(self);
}

template <bool wanted>
Value is_flag(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const bool* flag = std::get_if<bool>(&self);
  return flag != nullptr && *flag == wanted;
}

const Value& operand(const Arguments& arguments) {
  const auto [other] = bind(arguments, {"other"}, 1);
  return *other;
}

Value defined(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return !is<Undefined>(self);
}

Value callable(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is<Function*>(self) ||
         is<Undefined>(self);  // in Python undefined has a __call__, which raises
}

Value number(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is_number(self);
}

Value iterable(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is_iterable(self);
}

// What has a length and can be indexed: text, dicts and undefined among them.
Value sequence(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (is<Text>(self) || is<Dict*>(self) || is<Undefined>(self)) return true;
  const auto* items = std::get_if<Sequence*>(&self);
  if (items == nullptr) return false;
  const SequenceKind kind = (*items)->kind;
  return kind == SequenceKind::kList || kind == SequenceKind::kTuple ||
         kind == SequenceKind::kRange;
}

Value divisible(Runtime& runtime, const Value& self, const Value& divisor, Integer rest) {
  const Value modulo = apply(BinaryOperator::kModulo, self, divisor, runtime);
  return equal(modulo, rest, runtime.meter);
}

Value odd(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return divisible(runtime, self, Integer{2}, 1);
}

Value even(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return divisible(runtime, self, Integer{2}, 0);
}

Value divisibleby(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return divisible(runtime, self, operand(arguments), 0);
}

Value sameas(Runtime&, const Value& self, const Arguments& arguments) {
  return identical(self, operand(arguments));
}

Value eq(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return equal(self, operand(arguments), runtime.meter);
}

Value ne(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return !equal(self, operand(arguments), runtime.meter);
}

Value lt(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return less(self, operand(arguments), runtime.meter);
}

Value gt(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return less(operand(arguments), self, runtime.meter);
}

Value le(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return less(self, operand(arguments), runtime.meter) ||
         equal(self, operand(arguments), runtime.meter);
}

Value ge(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return less(operand(arguments), self, runtime.meter) ||
         equal(self, operand(arguments), runtime.meter);
}

Value in(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return contains(operand(arguments), self, runtime);
}

Value lower(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is_lower_text(text_of(self, runtime.meter));
}

Value upper(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return is_upper_text(text_of(self, runtime.meter));
}

Value escaped(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const Text* text = std::get_if<Text>(&self);
  return text != nullptr && text->markup();
}

template <Native (*find)(std::string_view)>
Value known(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return find(text_argument(&self, "")) != nullptr;
}

constexpr NativeEntry kTests[] = {
    {"!=", ne},
    {"<", lt},
    {"<=", le},
    {"==", eq},
    {">", gt},
    {">=", ge},
    {"boolean", holds<bool>},
    {"callable", callable},
    {"defined", defined},
    {"divisibleby", divisibleby},
    {"eq", eq},
    {"equalto", eq},
    {"escaped", escaped},
    {"even", even},
    {"false", is_flag<false>},
    {"filter", known<find_filter>},
    {"float", holds<double>},
    {"ge", ge},
    {"greaterthan", gt},
    {"gt", gt},
    {"in", in},
    {"integer", holds<Integer>},
    {"iterable", iterable},
    {"le", le},
    {"lessthan", lt},
    {"lower", lower},
    {"lt", lt},
    {"mapping", holds<Dict*>},
    {"ne", ne},
    {"none", holds<None>},
    {"number", number},
    {"odd", odd},
    {"sameas", sameas},
    {"sequence", sequence},
    {"string", holds<Text>},
    {"test", known<find_test>},
    {"true", is_flag<true>},
    {"undefined", holds<Undefined>},
    {"upper", upper},
};

}  // namespace

Native find_test(std::string_view name) { return find_in(kTests, name); }

}  // namespace tandem::chat::jinja
