// Type names, truth, equality and order.
#include "chat/jinja/operations.h"

#include <cmath>

namespace tandem::chat::jinja {
namespace {

enum class Order { kLess, kEqual, kGreater, kNone };

template <typename T>
Order order_of(const T& a, const T& b) {
  if (a < b) return Order::kLess;
  return b < a ? Order::kGreater : Order::kEqual;
}

Order number_order(const Value& a, const Value& b) {
  const auto x = as_integer(a), y = as_integer(b);
  if (x && y) return order_of(*x, *y);
  const double p = to_double(a), q = to_double(b);
  return std::isnan(p) || std::isnan(q) ? Order::kNone : order_of(p, q);
}

bool equal_nested(const Value& a, const Value& b, Meter& meter, int depth);

bool equal_items(const std::vector<Value>& a, const std::vector<Value>& b, Meter& meter,
                 int depth) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equal_nested(a[i], b[i], meter, depth)) return false;
  }
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Meter& meter, int depth) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal_nested(value, *other, meter, depth)) return false;
  }
  return true;
}

bool equal_sequences(const Sequence& a, const Sequence& b, Meter& meter, int depth) {
  if (&a == &b) return true;
  const auto comparable = [](SequenceKind kind) {
    return kind != SequenceKind::kIterator && kind != SequenceKind::kValues;
  };
  return a.kind == b.kind && comparable(a.kind) && equal_items(a.items, b.items, meter, depth);
}

bool equal_nested(const Value& a, const Value& b, Meter& meter, int depth) {
  meter.step();
  if (depth > kMaxValueDepth) fail("comparison of values nested more than {} deep", kMaxValueDepth);
  if (is_number(a) && is_number(b)) return number_order(a, b) == Order::kEqual;
  if (a.index() != b.index()) return false;
  if (const Text* text = std::get_if<Text>(&a)) {
    const std::string_view other = std::get<Text>(b).view();
    if (text->view().size() == other.size()) meter.touch_text(other.size());
    return text->view() == other;
  }
  if (const auto* sequence = std::get_if<Sequence*>(&a)) {
    return equal_sequences(**sequence, *std::get<Sequence*>(b), meter, depth + 1);
  }
  if (const auto* dict = std::get_if<Dict*>(&a)) {
    return *dict == std::get<Dict*>(b) ||
           equal_dicts(**dict, *std::get<Dict*>(b), meter, depth + 1);
  }
  return identical(a, b);
}

bool is_ordered_sequence(const Sequence& sequence) {
  return sequence.kind == SequenceKind::kList || sequence.kind == SequenceKind::kTuple;
}

bool less_nested(const Value& a, const Value& b, Meter& meter, int depth) {
  meter.step();
  if (depth > kMaxValueDepth) fail("comparison of values nested more than {} deep", kMaxValueDepth);
  if (is_number(a) && is_number(b)) return number_order(a, b) == Order::kLess;
  const Text *s = std::get_if<Text>(&a), *t = std::get_if<Text>(&b);
  if (s != nullptr && t != nullptr) {  // UTF-8 sorts as its code points do
    meter.touch_text(std::min(s->view().size(), t->view().size()));
    return s->view() < t->view();
  }
  const auto *p = std::get_if<Sequence*>(&a), *q = std::get_if<Sequence*>(&b);
  if (p != nullptr && q != nullptr && (*p)->kind == (*q)->kind && is_ordered_sequence(**p)) {
    const auto &x = (*p)->items, &y = (*q)->items;
    for (std::size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal_nested(x[i], y[i], meter, depth + 1))
        return less_nested(x[i], y[i], meter, depth + 1);
    }
    return x.size() < y.size();
  }
  fail("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b));
}

}  // namespace

std::string_view type_name(const Value& value) {
  struct Names {
    std::string_view operator()(const Undefined&) const { return "Undefined"; }
    std::string_view operator()(const None&) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(Integer) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const Text&) const { return "str"; }
    std::string_view operator()(const Sequence* sequence) const {
      switch (sequence->kind) {
        case SequenceKind::kList:
          return "list";
        case SequenceKind::kTuple:
          return "tuple";
        case SequenceKind::kRange:
          return "range";
        case SequenceKind::kKeys:
          return "dict_keys";
        case SequenceKind::kValues:
          return "dict_values";
        case SequenceKind::kItems:
          return "dict_items";
        case SequenceKind::kIterator:
          break;
      }
      return "generator";
    }
    std::string_view operator()(const Dict*) const { return "dict"; }
    std::string_view operator()(const Namespace*) const { return "Namespace"; }
    std::string_view operator()(const Function*) const { return "function"; }
    std::string_view operator()(const Loop*) const { return "LoopContext"; }
  };
  return std::visit(Names{}, value);
}

bool truthy(const Value& value) {
  struct Truth {
    bool operator()(const Undefined&) const { return false; }
    bool operator()(const None&) const { return false; }
    bool operator()(bool flag) const { return flag; }
    bool operator()(Integer integer) const { return integer != 0; }
    bool operator()(double number) const { return number != 0; }
    bool operator()(const Text& text) const { return !text.view().empty(); }
    bool operator()(const Sequence* sequence) const {
      return sequence->kind == SequenceKind::kIterator || !sequence->items.empty();
    }
    bool operator()(const Dict* dict) const { return dict->size() != 0; }
    bool operator()(const Namespace*) const { return true; }
    bool operator()(const Function*) const { return true; }
    bool operator()(const Loop* loop) const { return loop->count != 0; }
  };
  return std::visit(Truth{}, value);
}

bool equal(const Value& a, const Value& b, Meter& meter) { return equal_nested(a, b, meter, 0); }
bool less(const Value& a, const Value& b, Meter& meter) { return less_nested(a, b, meter, 0); }

bool identical(const Value& a, const Value& b) {
  if (a.index() != b.index()) return false;
  struct Identity {
    const Value& other;
    bool operator()(const Undefined&) const { return true; }
    bool operator()(const None&) const { return true; }
    bool operator()(bool flag) const { return flag == std::get<bool>(other); }
    bool operator()(Integer integer) const { return integer == std::get<Integer>(other); }
    bool operator()(double number) const { return number == std::get<double>(other); }
    bool operator()(const Text& text) const { return text.view() == std::get<Text>(other).view(); }
    bool operator()(const Sequence* sequence) const {
      return sequence == std::get<Sequence*>(other);
    }
    bool operator()(const Dict* dict) const { return dict == std::get<Dict*>(other); }
    bool operator()(const Namespace* space) const { return space == std::get<Namespace*>(other); }
    bool operator()(const Function* function) const {
      return function == std::get<Function*>(other);
    }
    bool operator()(const Loop* loop) const { return loop == std::get<Loop*>(other); }
  };
  return std::visit(Identity{b}, a);
}

void require_hashable(const Value& value) {
  if (is<Dict*>(value)) fail("unhashable type: 'dict'");
  const auto* sequence = std::get_if<Sequence*>(&value);
  if (sequence == nullptr) return;
  if ((*sequence)->kind == SequenceKind::kTuple) {
    for (const Value& item : (*sequence)->items) {
      if (!is<Sequence*>(item) && !is<Dict*>(item)) continue;
      fail("unhashable type: '{}' inside a tuple", type_name(item));
    }
  } else if ((*sequence)->kind == SequenceKind::kList) {
    fail("unhashable type: 'list'");
  }
}

bool is_number(const Value& value) {
  return is<bool>(value) || is<Integer>(value) || is<double>(value);
}

std::optional<Integer> as_integer(const Value& value) {
  if (const Integer* integer = std::get_if<Integer>(&value)) return *integer;
  if (const bool* flag = std::get_if<bool>(&value)) return Integer{*flag};
  return std::nullopt;
}

double to_double(const Value& number) {
  if (const double* value = std::get_if<double>(&number)) return *value;
  return static_cast<double>(as_integer(number).value_or(0));
}

}  // namespace tandem::chat::jinja
