// Filters that pick, order, map or join items.
#include <algorithm>

#include "chat/jinja/attributes.h"
#include "chat/jinja/functions.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/text_tools.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

// "a.b.0": a path of keys and indexes into each item; no argument: the item itself.
class AttributePath {
 public:
  AttributePath(const Value* argument, Runtime& runtime, const Value* fallback = nullptr)
      : runtime_(runtime), fallback_(fallback) {
    if (argument == nullptr || is<None>(*argument)) return;
    if (const auto index = as_integer(*argument)) {
      keys_.push_back(*index);
      return;
    }
    std::string_view path = text_argument(argument, "");
    for (;;) {
      const std::size_t dot = std::min(path.find('.'), path.size());
      const std::string_view part = path.substr(0, dot);
      const bool index =
          !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos;
      keys_.push_back(index ? Value(*parse_integer(part, 10)) : runtime.heap.text(part));
      if (dot == path.size()) break;
      path.remove_prefix(dot + 1);
    }
  }

  Value operator()(const Value& item) const {
    Value value = item;
    for (const Value& key : keys_) {
      value = subscript(value, key, nullptr, runtime_);
      if (fallback_ != nullptr && is<Undefined>(value)) value = *fallback_;
    }
    return value;
  }

 private:
  Runtime& runtime_;
  const Value* fallback_;
  std::vector<Value> keys_;
};

Value folded(const Value& value, bool case_sensitive, Runtime& runtime) {
  const Text* text = std::get_if<Text>(&value);
  return text == nullptr || case_sensitive ? value : runtime.heap.text(to_lower(text->view()));
}

// map, select and their relatives take anything false for no items.
std::vector<Value> items_if_any(const Value& value, Runtime& runtime) {
  return truthy(value) ? iterate(value, runtime) : std::vector<Value>{};
}

struct Keyed {
  Value key, item;
};

void sort_keyed(std::vector<Keyed>& items, bool reverse, Meter& meter) {
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(b.key, a.key, meter) : less(a.key, b.key, meter);
  });
}

std::vector<Value> items_of(std::vector<Keyed> keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (Keyed& entry : keyed) items.push_back(std::move(entry.item));
  return items;
}

Value defaulted(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [fallback, boolean] = bind(arguments, {"default_value", "boolean"});
  const bool replaced = is<Undefined>(self) || (flag_argument(boolean, false) && !truthy(self));
  if (!replaced) return self;
  return fallback == nullptr ? runtime.heap.text(std::string_view{}) : *fallback;
}

Value length_of(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return Integer{length(self)};
}

Value first(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (const Text* text = std::get_if<Text>(&self); text != nullptr && !text->view().empty()) {
    return runtime.heap.text(text->view().substr(0, decode(text->view(), 0).size), text->markup());
  }
  std::vector<Value> items = iterate(self, runtime);
  return items.empty() ? Value(Undefined{}) : std::move(items.front());
}

Value last(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const auto* sequence = std::get_if<Sequence*>(&self);
  if (sequence != nullptr && (*sequence)->kind == SequenceKind::kIterator)
    fail("'generator' object is not reversible");
  std::vector<Value> items = iterate(self, runtime);
  return items.empty() ? Value(Undefined{}) : std::move(items.back());
}

Value to_list(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.list(iterate(self, runtime));
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [separator, path] = bind(arguments, {"d", "attribute"});
  const AttributePath attribute(path, runtime);
  const std::string between = separator == nullptr ? "" : text_of(*separator, runtime.meter);
  TextBuilder out(runtime.meter);
  bool is_first = true;
  for (const Value& item : iterate(self, runtime)) {
    runtime.meter.step();
    if (!is_first) out.append(between);
    print(attribute(item), out);
    is_first = false;
  }
  return runtime.heap.text(out.take());
}

std::vector<Value> item_pairs(const Dict& dict, Runtime& runtime) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict.entries()) pairs.push_back(runtime.heap.tuple({key, value}));
  return pairs;
}

Value items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (is<Undefined>(self)) return runtime.heap.iterator({});
  const auto* dict = std::get_if<Dict*>(&self);
  if (dict == nullptr) fail("Can only get item pairs from a mapping.");
  return runtime.heap.iterator(item_pairs(**dict, runtime));
}

Value dictsort(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [case_sensitive, by, reverse] = bind(arguments, {"case_sensitive", "by", "reverse"});
  const std::string_view part = text_argument(by, "key");
  if (part != "key" && part != "value") fail("dictsort: can only sort by key or value");
  const auto* dict = std::get_if<Dict*>(&self);
  if (dict == nullptr) fail("dictsort: expected a mapping, not {}", type_name(self));
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : (*dict)->entries()) {
    const Value& chosen = part == "key" ? key : value;
    keyed.push_back({folded(chosen, flag_argument(case_sensitive, false), runtime),
                     runtime.heap.tuple({key, value})});
  }
  sort_keyed(keyed, flag_argument(reverse, false), runtime.meter);
  return runtime.heap.list(items_of(std::move(keyed)));
}

// attribute may list several paths: "a,b.c". As in Jinja the keys are lists even of one, so that
// equal keys need no order: two undefined or two dicts may be sorted.
Value sort(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [reverse, case_sensitive, path] =
      bind(arguments, {"reverse", "case_sensitive", "attribute"});
  const bool sensitive = flag_argument(case_sensitive, false);
  std::vector<AttributePath> paths;
  if (path != nullptr && is<Text>(*path)) {
    std::string_view rest = std::get<Text>(*path).view();
    for (;;) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      const Value part = runtime.heap.text(rest.substr(0, comma));
      paths.emplace_back(&part, runtime);
      if (comma == rest.size()) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.emplace_back(path, runtime);
  }
  std::vector<Keyed> keyed;
  for (Value& item : iterate(self, runtime)) {
    std::vector<Value> key;
    for (const AttributePath& attribute : paths)
      key.push_back(folded(attribute(item), sensitive, runtime));
    keyed.push_back({runtime.heap.list(std::move(key)), std::move(item)});
  }
  sort_keyed(keyed, flag_argument(reverse, false), runtime.meter);
  return runtime.heap.list(items_of(std::move(keyed)));
}

Value unique(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [case_sensitive, path] = bind(arguments, {"case_sensitive", "attribute"});
  const AttributePath attribute(path, runtime);
  Dict* seen = runtime.heap.dict();
  std::vector<Value> kept;
  for (const Value& item : iterate(self, runtime)) {
    const Value key = folded(attribute(item), flag_argument(case_sensitive, false), runtime);
    if (seen->find(key) != nullptr) continue;
    seen->set(key, None{});
    kept.push_back(item);
  }
  return runtime.heap.iterator(std::move(kept));
}

Value extreme(Runtime& runtime, const Value& self, const Arguments& arguments, bool want_less) {
  const auto [case_sensitive, path] = bind(arguments, {"case_sensitive", "attribute"});
  const AttributePath attribute(path, runtime);
  std::optional<Keyed> best;
  for (const Value& item : iterate(self, runtime)) {
    Value key = folded(attribute(item), flag_argument(case_sensitive, false), runtime);
    const bool better = !best || (want_less ? less(key, best->key, runtime.meter)
                                            : less(best->key, key, runtime.meter));
    if (better) best = Keyed{std::move(key), item};
  }
  return best ? best->item : Value(Undefined{});
}

Value minimum(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return extreme(runtime, self, arguments, true);
}

Value maximum(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return extreme(runtime, self, arguments, false);
}

Value sum(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [path, start] = bind(arguments, {"attribute", "start"});
  const AttributePath attribute(path, runtime);
  Value total = start == nullptr ? Value(Integer{0}) : *start;
  if (is<Text>(total)) fail("sum() can't sum strings");
  for (const Value& item : iterate(self, runtime)) {
    total = apply(BinaryOperator::kAdd, total, attribute(item), runtime);
  }
  return total;
}

Value reverse(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  if (is<Text>(self)) return slice(self, {.step = Integer{-1}}, runtime);
  std::vector<Value> items = iterate(self, runtime);
  std::reverse(items.begin(), items.end());
  return runtime.heap.iterator(std::move(items));
}

Value batch(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [size, fill] = bind(arguments, {"linecount", "fill_with"}, 1);
  const Integer count = integer_argument(size, 1);
  if (count < 1 || count > static_cast<Integer>(kMaxRange)) fail("batch: size out of range");
  std::vector<Value> batches, row;
  for (const Value& item : iterate(self, runtime)) {
    row.push_back(item);
    if (static_cast<Integer>(row.size()) == count)
      batches.push_back(runtime.heap.list(std::exchange(row, {})));
  }
  if (!row.empty()) {
    if (fill != nullptr && !is<None>(*fill)) row.resize(static_cast<std::size_t>(count), *fill);
    batches.push_back(runtime.heap.list(std::move(row)));
  }
  return runtime.heap.iterator(std::move(batches));
}

Value map(Runtime& runtime, const Value& self, const Arguments& arguments) {
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const auto [path, fallback] = bind(arguments, {"attribute", "default"}, 1);
    const AttributePath attribute(path, runtime, fallback);
    for (const Value& item : items_if_any(self, runtime)) mapped.push_back(attribute(item));
    return runtime.heap.iterator(std::move(mapped));
  }
  const std::string_view name = text_argument(&arguments.positional[0], "");
  const Native filter = find_filter(name);
  if (filter == nullptr) fail("No filter named '{}'", name);
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()},
                       arguments.named};
  for (const Value& item : items_if_any(self, runtime))
    mapped.push_back(call_native(filter, runtime, item, rest));
  return runtime.heap.iterator(std::move(mapped));
}

// by_attribute: the first argument names what to test of each item. Without a test: its truth.
Value filtered(Runtime& runtime, const Value& self, const Arguments& arguments, bool by_attribute,
               bool wanted) {
  const std::size_t offset = by_attribute ? 1 : 0;
  if (arguments.positional.size() < offset) fail("missing the attribute to test");
  const AttributePath attribute(by_attribute ? &arguments.positional[0] : nullptr, runtime);
  Native test = nullptr;
  Arguments rest{{}, arguments.named};
  if (arguments.positional.size() > offset) {
    const std::string_view name = text_argument(&arguments.positional[offset], "");
    test = find_test(name);
    if (test == nullptr) fail("No test named '{}'", name);
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(offset) + 1,
                           arguments.positional.end());
  }
  std::vector<Value> kept;
  for (const Value& item : items_if_any(self, runtime)) {
    const Value subject = attribute(item);
    const bool holds =
        truthy(test == nullptr ? subject : call_native(test, runtime, subject, rest));
    if (holds == wanted) kept.push_back(item);
  }
  return runtime.heap.iterator(std::move(kept));
}

Value select(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return filtered(runtime, self, arguments, false, true);
}

Value reject(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return filtered(runtime, self, arguments, false, false);
}

Value selectattr(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return filtered(runtime, self, arguments, true, true);
}

Value rejectattr(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return filtered(runtime, self, arguments, true, false);
}

constexpr NativeEntry kFilters[] = {
    {"batch", batch},           {"count", length_of},   {"d", defaulted},
    {"default", defaulted},     {"dictsort", dictsort}, {"first", first},
    {"items", items},           {"join", join},         {"last", last},
    {"length", length_of},      {"list", to_list},      {"map", map},
    {"max", maximum},           {"min", minimum},       {"reject", reject},
    {"rejectattr", rejectattr}, {"reverse", reverse},   {"select", select},
    {"selectattr", selectattr}, {"sort", sort},         {"sum", sum},
    {"unique", unique},
};

}  // namespace

Native find_sequence_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace tandem::chat::jinja
