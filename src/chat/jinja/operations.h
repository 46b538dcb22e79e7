// Python's operators and protocols on values: truth, comparison, arithmetic, containment, length,
// iteration, indexing.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

std::string_view type_name(const Value& value);  // "str", "list", ... as Python's messages say

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b, Meter& meter);
bool identical(const Value& a, const Value& b);  // Python's `is`
bool less(const Value& a, const Value& b, Meter& meter);
bool contains(const Value& container, const Value& item, Runtime& runtime);
void require_hashable(const Value& value);

// Numbers, booleans among them.
bool is_number(const Value& value);
std::optional<Integer> as_integer(const Value& value);  // integers and booleans
double to_double(const Value& number);

enum class BinaryOperator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
Value apply(BinaryOperator operation, const Value& a, const Value& b, Runtime& runtime);
Value negate(const Value& value);
Value plus_sign(const Value& value);
Integer checked_add(Integer a, Integer b);

std::size_t length(const Value& value);
// The items of anything iterable; using up an iterator leaves it empty.
std::vector<Value> iterate(const Value& value, Runtime& runtime);
bool is_iterable(const Value& value);

// object[key]; nothing where Python raises LookupError or TypeError.
std::optional<Value> item(const Value& object, const Value& key, Runtime& runtime);

struct SliceBounds {
  Value start = None{}, stop = None{}, step = None{};
};
Value slice(const Value& object, const SliceBounds& bounds, Runtime& runtime);

}  // namespace tandem::chat::jinja
