// Arithmetic with Python's rules: true division, floored modulo, text and list repetition, checked
// integers.
#include <algorithm>
#include <cmath>

#include "chat/jinja/escape.h"
#include "chat/jinja/format.h"
#include "chat/jinja/operations.h"

namespace tandem::chat::jinja {
namespace {

constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void unsupported(BinaryOperator operation, const Value& a, const Value& b) {
  fail("unsupported operand types for {}: '{}' and '{}'", kSigns[static_cast<int>(operation)],
       type_name(a), type_name(b));
}

Integer checked_multiply(Integer a, Integer b) {
  Integer result;
  if (__builtin_mul_overflow(a, b, &result)) fail("integer overflow");
  return result;
}

Integer floor_divide(Integer a, Integer b) {
  if (b == 0) fail("integer division or modulo by zero");
  if (b == -1) return checked_multiply(a, -1);
  const Integer quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Integer floor_modulo(Integer a, Integer b) {
  if (b == 0) fail("integer division or modulo by zero");
  if (b == -1) return 0;
  const Integer rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value power(Integer base, Integer exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  if (base == 0 || base == 1) return exponent == 0 ? Integer{1} : base;
  if (base == -1) return exponent % 2 == 0 ? Integer{1} : Integer{-1};
  Integer result = 1;  // overflows within 127 rounds
  for (; exponent > 0; --exponent) result = checked_multiply(result, base);
  return result;
}

Value apply_integers(BinaryOperator operation, Integer a, Integer b) {
  Integer result = 0;
  switch (operation) {
    case BinaryOperator::kAdd:
      return checked_add(a, b);
    case BinaryOperator::kSubtract:
      if (__builtin_sub_overflow(a, b, &result)) fail("integer overflow");
      return result;
    case BinaryOperator::kMultiply:
      return checked_multiply(a, b);
    case BinaryOperator::kDivide:
      if (b == 0) fail("division by zero");
      return static_cast<double>(a) / static_cast<double>(b);
    case BinaryOperator::kFloorDivide:
      return floor_divide(a, b);
    case BinaryOperator::kModulo:
      return floor_modulo(a, b);
    case BinaryOperator::kPower:
      break;
  }
  return power(a, b);
}

double floor_modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

Value apply_doubles(BinaryOperator operation, double a, double b) {
  switch (operation) {
    case BinaryOperator::kAdd:
      return a + b;
    case BinaryOperator::kSubtract:
      return a - b;
    case BinaryOperator::kMultiply:
      return a * b;
    case BinaryOperator::kPower:
      if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b)) fail("a negative number has no real power {}", b);
      if (const double result = std::pow(a, b);
          std::isfinite(result) || !std::isfinite(a) || !std::isfinite(b)) {
        return result;
      }
      fail("{} ** {} is too large", a, b);
    default:
      break;
  }
  if (b == 0) fail("float division by zero");
  if (operation == BinaryOperator::kDivide) return a / b;
  const double rest = floor_modulo(a, b);
  return operation == BinaryOperator::kModulo ? rest : std::round((a - rest) / b);
}

Value add_texts(const Text& a, const Text& b, Runtime& runtime) {
  const bool markup = a.markup() || b.markup();
  TextBuilder out(runtime.meter);
  for (const Text* text : {&a, &b}) {
    if (markup && !text->markup()) {
      escape_html(text->view(), out);
    } else {
      out.append(text->view());
    }
  }
  return runtime.heap.text(out.take(), markup);
}

Value add_sequences(const Sequence& a, const Sequence& b, Runtime& runtime) {
  const std::size_t total = a.items.size() + b.items.size();
  runtime.meter.step(total / 8);
  std::vector<Value> items;
  items.reserve(total);
  items.insert(items.end(), a.items.begin(), a.items.end());
  items.insert(items.end(), b.items.begin(), b.items.end());
  return runtime.heap.sequence(a.kind, std::move(items));
}

bool concatenates(const Sequence& sequence) {
  return sequence.kind == SequenceKind::kList || sequence.kind == SequenceKind::kTuple;
}

Value add(const Value& a, const Value& b, Runtime& runtime) {
  if (const Text* text = std::get_if<Text>(&a)) {
    if (const Text* other = std::get_if<Text>(&b)) return add_texts(*text, *other, runtime);
    fail("can only concatenate str (not \"{}\") to str", type_name(b));
  }
  const auto *s = std::get_if<Sequence*>(&a), *t = std::get_if<Sequence*>(&b);
  if (s == nullptr || t == nullptr || (*s)->kind != (*t)->kind || !concatenates(**s)) {
    unsupported(BinaryOperator::kAdd, a, b);
  }
  return add_sequences(**s, **t, runtime);
}

Value repeat(const Value& a, Integer count, Runtime& runtime) {
  const auto times = static_cast<std::size_t>(std::clamp<Integer>(count, 0, kMaxLiveBytes));
  if (const Text* text = std::get_if<Text>(&a)) {
    const std::string_view piece = text->view();
    if (piece.size() * times > kMaxTextBytes) fail("text grows beyond {} MiB", kMaxTextBytes >> 20);
    runtime.meter.step(times / 8);
    TextBuilder out(runtime.meter);
    for (std::size_t i = 0; i < times && !piece.empty(); ++i) out.append(piece);
    return runtime.heap.text(out.take(), text->markup());
  }
  const Sequence& sequence = *std::get<Sequence*>(a);
  std::vector<Value> items;
  if (sequence.items.size() * times > kMaxLiveBytes / sizeof(Value))
    fail("list repetition too large");
  runtime.meter.take(sequence.items.size() * times * sizeof(Value));
  for (std::size_t i = 0; i < times && !sequence.items.empty(); ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  runtime.meter.give_back(items.size() * sizeof(Value));
  return runtime.heap.sequence(sequence.kind, std::move(items));
}

bool repeats(const Value& value) {
  const auto* sequence = std::get_if<Sequence*>(&value);
  return is<Text>(value) || (sequence != nullptr && concatenates(**sequence));
}

}  // namespace

Integer checked_add(Integer a, Integer b) {
  Integer result;
  if (__builtin_add_overflow(a, b, &result)) fail("integer overflow");
  return result;
}

Value apply(BinaryOperator operation, const Value& a, const Value& b, Runtime& runtime) {
  if (is_number(a) && is_number(b)) {
    const auto x = as_integer(a), y = as_integer(b);
    if (x && y) return apply_integers(operation, *x, *y);
    return apply_doubles(operation, to_double(a), to_double(b));
  }
  if (operation == BinaryOperator::kAdd) return add(a, b, runtime);
  if (operation == BinaryOperator::kMultiply) {
    if (const auto count = as_integer(b); count && repeats(a)) return repeat(a, *count, runtime);
    if (const auto count = as_integer(a); count && repeats(b)) return repeat(b, *count, runtime);
  }
  if (operation == BinaryOperator::kModulo && is<Text>(a)) {
    return format_percent(std::get<Text>(a), b, runtime);
  }
  unsupported(operation, a, b);
}

Value negate(const Value& value) {
  if (const double* number = std::get_if<double>(&value)) return -*number;
  const auto integer = as_integer(value);
  if (!integer) fail("bad operand type for unary -: '{}'", type_name(value));
  return checked_multiply(*integer, -1);
}

Value plus_sign(const Value& value) {
  if (is<double>(value)) return value;
  const auto integer = as_integer(value);
  if (!integer) fail("bad operand type for unary +: '{}'", type_name(value));
  return *integer;
}

}  // namespace tandem::chat::jinja
