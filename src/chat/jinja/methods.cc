// Methods of lists, tuples, dicts and loops, and the global functions.
#include <algorithm>

#include "chat/jinja/attributes.h"
#include "chat/jinja/functions.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/strftime.h"

namespace tandem::chat::jinja {
namespace {

Dict& dict_self(const Value& self) { return *std::get<Dict*>(self); }
std::vector<Value>& items_self(const Value& self) { return std::get<Sequence*>(self)->items; }

Value get(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [key, fallback] = bind(arguments, {"key", "default"}, 1);
  const Value* found = dict_self(self).find(*key);
  if (found != nullptr) return *found;
  return fallback == nullptr ? Value(None{}) : *fallback;
}

Value items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  std::vector<Value> pairs;
  for (const auto& [key, value] : dict_self(self).entries()) {
    runtime.meter.step();
    pairs.push_back(runtime.heap.tuple({key, value}));
  }
  return runtime.heap.sequence(SequenceKind::kItems, std::move(pairs));
}

Value keys(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.sequence(SequenceKind::kKeys, iterate(self, runtime));
}

Value values(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  std::vector<Value> found;
  for (const auto& entry : dict_self(self).entries()) found.push_back(entry.second);
  return runtime.heap.sequence(SequenceKind::kValues, std::move(found));
}

Value pop_key(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [key, fallback] = bind(arguments, {"key", "default"}, 1);
  const Value* found = dict_self(self).find(*key);
  if (found == nullptr) {
    if (fallback == nullptr) fail("pop: no such key");
    return *fallback;
  }
  Value result = *found;
  dict_self(self).erase(*key);
  return result;
}

Value setdefault(Runtime&, const Value& self, const Arguments& arguments) {
  const auto [key, fallback] = bind(arguments, {"key", "default"}, 1);
  if (const Value* found = dict_self(self).find(*key)) return *found;
  Value value = fallback == nullptr ? Value(None{}) : *fallback;
  dict_self(self).set(*key, value);
  return value;
}

void update_from(Dict& dict, const Value& source) {
  const auto* other = std::get_if<Dict*>(&source);
  if (other == nullptr) fail("expected a mapping, not {}", type_name(source));
  const std::vector<Dict::Entry> entries = (*other)->entries();  // it may be the same dict
  for (const auto& [key, value] : entries) dict.set(key, value);
}

void update_from(Dict& dict, const Arguments& arguments, Runtime& runtime) {
  if (arguments.positional.size() > 1) fail("takes at most 1 positional argument");
  for (const Value& source : arguments.positional) update_from(dict, source);
  for (const auto& [name, value] : arguments.named) dict.set(runtime.heap.text(name), value);
}

Value update(Runtime& runtime, const Value& self, const Arguments& arguments) {
  update_from(dict_self(self), arguments, runtime);
  return None{};
}

Value copy_dict(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  Dict* copy = runtime.heap.dict();
  for (const auto& [key, value] : dict_self(self).entries()) copy->append(key, value);
  return copy;
}

void admit_items(Runtime& runtime, std::size_t count) {
  runtime.meter.take(count * sizeof(Value));
  runtime.meter.step(count);
}

Value append(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [item] = bind(arguments, {"object"}, 1);
  admit_items(runtime, 1);
  items_self(self).push_back(*item);
  return None{};
}

Value extend(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [more] = bind(arguments, {"iterable"}, 1);
  const std::vector<Value> added = iterate(*more, runtime);
  admit_items(runtime, added.size());
  items_self(self).insert(items_self(self).end(), added.begin(), added.end());
  return None{};
}

Value insert(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [index, item] = bind(arguments, {"index", "object"}, 2);
  std::vector<Value>& items = items_self(self);
  const auto size = static_cast<Integer>(items.size());
  const Integer wanted = integer_argument(index, 0);
  admit_items(runtime, 1);
  runtime.meter.step(items.size() / 8);
  const Integer at = std::clamp<Integer>(wanted < 0 ? wanted + size : wanted, 0, size);
  items.insert(items.begin() + static_cast<std::ptrdiff_t>(at), *item);
  return None{};
}

Value pop_item(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [index] = bind(arguments, {"index"});
  std::vector<Value>& items = items_self(self);
  const auto size = static_cast<Integer>(items.size());
  Integer at = integer_argument(index, -1);
  if (at < 0) at += size;
  if (at < 0 || at >= size) fail("pop from an empty list or beyond its end");
  runtime.meter.step(items.size() / 8);
  Value result = items[static_cast<std::size_t>(at)];
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(at));
  return result;
}

Value reverse_items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  runtime.meter.step(items_self(self).size() / 8);
  std::reverse(items_self(self).begin(), items_self(self).end());
  return None{};
}

Value copy_list(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return runtime.heap.list(iterate(self, runtime));
}

Value index_of(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [wanted] = bind(arguments, {"value"}, 1);
  const std::vector<Value>& items = items_self(self);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], *wanted, runtime.meter)) return Integer{i};
  }
  fail("index: the value is not in the list");
}

Value count_of(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [wanted] = bind(arguments, {"value"}, 1);
  Integer count = 0;
  for (const Value& item : items_self(self)) count += equal(item, *wanted, runtime.meter) ? 1 : 0;
  return count;
}

Value cycle(Runtime&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("no items for cycling given");
  return arguments.positional[std::get<Loop*>(self)->index % arguments.positional.size()];
}

Value changed(Runtime& runtime, const Value& self, const Arguments& arguments) {
  Loop& loop = *std::get<Loop*>(self);
  const auto same = [&](const Value& a, const Value& b) { return equal(a, b, runtime.meter); };
  const auto& now = arguments.positional;
  if (loop.last_changed && std::equal(now.begin(), now.end(), loop.last_changed->begin(),
                                      loop.last_changed->end(), same)) {
    return false;
  }
  loop.last_changed = now;
  return true;
}

Value range(Runtime& runtime, const Value&, const Arguments& arguments) {
  const auto [a, b, c] = bind(arguments, {"start", "stop", "step"}, 1);
  for (const Value* bound : {a, b, c}) {
    if (bound != nullptr && !as_integer(*bound))
      fail("range: expected integers, not {}", type_name(*bound));
  }
  const Integer start = b == nullptr ? 0 : *as_integer(*a);
  const Integer stop = *as_integer(b == nullptr ? *a : *b);
  const Integer step = c == nullptr ? 1 : *as_integer(*c);
  if (step == 0) fail("range: the step must not be zero");
  std::vector<Value> numbers;
  for (Integer at = start; step > 0 ? at < stop : at > stop; at = checked_add(at, step)) {
    if (numbers.size() == kMaxRange) fail("range: more than {} numbers", kMaxRange);
    numbers.emplace_back(at);
  }
  const Value result = runtime.heap.sequence(SequenceKind::kRange, std::move(numbers));
  Sequence& sequence = *std::get<Sequence*>(result);
  sequence.range_start = start;
  sequence.range_stop = stop;
  sequence.range_step = step;
  return result;
}

Value make_namespace(Runtime& runtime, const Value&, const Arguments& arguments) {
  Namespace* space = runtime.heap.new_namespace();
  update_from(*space->attributes, arguments, runtime);
  return space;
}

Value make_dict(Runtime& runtime, const Value&, const Arguments& arguments) {
  Dict* dict = runtime.heap.dict();
  update_from(*dict, arguments, runtime);
  return dict;
}

Value raise_exception(Runtime& runtime, const Value&, const Arguments& arguments) {
  const auto [message] = bind(arguments, {"message"}, 1);
  fail("{}", text_of(*message, runtime.meter));
}

Value strftime_now(Runtime& runtime, const Value&, const Arguments& arguments) {
  const auto [format] = bind(arguments, {"format"}, 1);
  if (!is<Text>(*format)) fail("strftime_now: the format must be a string");
  return runtime.heap.text(format_time(std::get<Text>(*format).view(), runtime.now, runtime.meter));
}

constexpr NativeEntry kDictMethods[] = {
    {"copy", copy_dict}, {"get", get},       {"items", items},
    {"keys", keys},      {"pop", pop_key},   {"setdefault", setdefault},
    {"update", update},  {"values", values},
};
constexpr NativeEntry kListMethods[] = {
    {"append", append},  {"copy", copy_list}, {"count", count_of}, {"extend", extend},
    {"index", index_of}, {"insert", insert},  {"pop", pop_item},   {"reverse", reverse_items},
};
constexpr NativeEntry kTupleMethods[] = {{"count", count_of}, {"index", index_of}};
constexpr NativeEntry kLoopMethods[] = {{"changed", changed}, {"cycle", cycle}};
constexpr NativeEntry kGlobals[] = {
    {"dict", make_dict}, {"namespace", make_namespace},  {"raise_exception", raise_exception},
    {"range", range},    {"strftime_now", strftime_now},
};

}  // namespace

Native find_global(std::string_view name) { return find_in(kGlobals, name); }

const NativeEntry* find_method(const Value& object, std::string_view name) {
  if (is<Text>(object)) return find_text_method(name);
  if (is<Dict*>(object)) return find_entry(kDictMethods, name);
  if (is<Loop*>(object)) return find_entry(kLoopMethods, name);
  const auto* sequence = std::get_if<Sequence*>(&object);
  if (sequence == nullptr) return nullptr;
  switch ((*sequence)->kind) {
    case SequenceKind::kList:
      return find_entry(kListMethods, name);
    case SequenceKind::kTuple:
    case SequenceKind::kRange:
      return find_entry(kTupleMethods, name);
    default:
      return nullptr;
  }
}

}  // namespace tandem::chat::jinja
