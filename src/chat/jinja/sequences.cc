// Containment, length, iteration, indexing and slices.
#include <algorithm>
#include <limits>

#include "chat/jinja/operations.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

bool contains_item(const std::vector<Value>& items, const Value& item, Meter& meter) {
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& candidate) { return equal(candidate, item, meter); });
}

bool indexable(const Sequence& sequence) {
  return sequence.kind == SequenceKind::kList || sequence.kind == SequenceKind::kTuple ||
         sequence.kind == SequenceKind::kRange;
}

std::vector<Value> characters(std::string_view text, Runtime& runtime) {
  std::vector<Value> items;
  for (std::size_t at = 0; at < text.size();) {
    runtime.meter.step();
    const std::size_t size = decode(text, at).size;
    items.push_back(runtime.heap.text(text.substr(at, size)));
    at += size;
  }
  return items;
}

std::optional<Value> character(const Text& text, Integer index, Runtime& runtime) {
  const std::string_view bytes = text.view();
  runtime.meter.touch_text(bytes.size());
  if (index < 0) index += static_cast<Integer>(count_characters(bytes));
  if (index < 0 || index >= static_cast<Integer>(bytes.size())) return std::nullopt;
  const std::size_t at = offset_of(bytes, static_cast<std::size_t>(index));
  if (at == bytes.size()) return std::nullopt;
  return runtime.heap.text(bytes.substr(at, decode(bytes, at).size), text.markup());
}

struct Range {
  Integer start, count, step;
};

Integer slice_bound(const Value& value, Integer fallback) {
  if (is<None>(value)) return fallback;
  const auto integer = as_integer(value);
  if (!integer) fail("slice indices must be integers or None, not '{}'", type_name(value));
  return *integer;
}

// Python's slice.indices(size), with the number of items instead of the stop.
Range resolve(const SliceBounds& bounds, std::size_t items) {
  const auto size = static_cast<Integer>(items);
  const Integer step = slice_bound(bounds.step, 1);
  if (step == 0) fail("slice step cannot be zero");
  const Integer low = step < 0 ? -1 : 0, high = step < 0 ? size - 1 : size;
  const auto clamped = [&](const Value& value, Integer fallback) {
    if (is<None>(value)) return fallback;
    Integer bound = slice_bound(value, fallback);
    if (bound < 0 && bound >= -size)
      bound += size;
    else if (bound < 0)
      bound = low;
    return std::clamp(bound, low, high);
  };
  const Integer start = clamped(bounds.start, step < 0 ? high : low);
  const Integer stop = clamped(bounds.stop, step < 0 ? low : high);
  const Integer distance = step < 0 ? start - stop : stop - start;
  const Integer width = step < 0 ? -std::max(step, -size - 1) : std::min(step, size + 1);
  return {start, distance <= 0 ? 0 : (distance + width - 1) / width, step < 0 ? -width : width};
}

Value slice_text(const Text& text, const SliceBounds& bounds, Runtime& runtime) {
  const std::string_view bytes = text.view();
  runtime.meter.touch_text(bytes.size());
  const Range range = resolve(bounds, count_characters(bytes));
  if (range.count <= 0) return runtime.heap.text(std::string_view{});
  if (range.step == 1) {
    const std::size_t first = offset_of(bytes, static_cast<std::size_t>(range.start));
    const std::size_t size = offset_of(bytes.substr(first), static_cast<std::size_t>(range.count));
    return runtime.heap.text(bytes.substr(first, size), text.markup());
  }
  std::vector<std::size_t> starts;
  runtime.meter.step(bytes.size() / 8);
  for (std::size_t at = 0; at < bytes.size(); at += decode(bytes, at).size) starts.push_back(at);
  std::string out;
  for (Integer i = 0, at = range.start; i < range.count; ++i, at += range.step) {
    const std::size_t start = starts[static_cast<std::size_t>(at)];
    out.append(bytes.substr(start, decode(bytes, start).size));
  }
  return runtime.heap.text(std::move(out), text.markup());
}

}  // namespace

bool contains(const Value& container, const Value& item, Runtime& runtime) {
  if (const Text* text = std::get_if<Text>(&container)) {
    const Text* needle = std::get_if<Text>(&item);
    if (needle == nullptr)
      fail("'in <string>' requires string as left operand, not {}", type_name(item));
    runtime.meter.touch_text(text->view().size());
    return find_text(text->view(), needle->view()) != std::string_view::npos;
  }
  if (const auto* dict = std::get_if<Dict*>(&container)) return (*dict)->find(item) != nullptr;
  if (const auto* sequence = std::get_if<Sequence*>(&container)) {
    if ((*sequence)->kind == SequenceKind::kIterator) {
      return contains_item(iterate(container, runtime), item, runtime.meter);
    }
    return contains_item((*sequence)->items, item, runtime.meter);
  }
  if (is<Undefined>(container)) return false;
  fail("argument of type '{}' is not iterable", type_name(container));
}

std::size_t length(const Value& value) {
  if (const Text* text = std::get_if<Text>(&value)) return count_characters(text->view());
  if (const auto* dict = std::get_if<Dict*>(&value)) return (*dict)->size();
  if (const auto* loop = std::get_if<Loop*>(&value)) return (*loop)->count;
  if (is<Undefined>(value)) return 0;
  const auto* sequence = std::get_if<Sequence*>(&value);
  if (sequence == nullptr || (*sequence)->kind == SequenceKind::kIterator) {
    fail("object of type '{}' has no len()", type_name(value));
  }
  return (*sequence)->items.size();
}

bool is_iterable(const Value& value) {
  return is<Text>(value) || is<Dict*>(value) || is<Sequence*>(value) || is<Undefined>(value) ||
         is<Loop*>(value);
}

std::vector<Value> iterate(const Value& value, Runtime& runtime) {
  if (const Text* text = std::get_if<Text>(&value)) return characters(text->view(), runtime);
  if (const auto* sequence = std::get_if<Sequence*>(&value)) {
    runtime.meter.step((*sequence)->items.size() / 8);
    if ((*sequence)->kind == SequenceKind::kIterator) return std::exchange((*sequence)->items, {});
    return (*sequence)->items;
  }
  if (const auto* dict = std::get_if<Dict*>(&value)) {
    runtime.meter.step((*dict)->size() / 8);
    std::vector<Value> keys;
    keys.reserve((*dict)->size());
    for (const auto& entry : (*dict)->entries()) keys.push_back(entry.first);
    return keys;
  }
  if (is<Undefined>(value)) return {};
  fail("'{}' object is not iterable", type_name(value));
}

std::optional<Value> item(const Value& object, const Value& key, Runtime& runtime) {
  if (const auto* dict = std::get_if<Dict*>(&object)) {
    if (is<Dict*>(key) ||
        (is<Sequence*>(key) && std::get<Sequence*>(key)->kind == SequenceKind::kList)) {
      return std::nullopt;
    }
    const Value* found = (*dict)->find(key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  auto index = as_integer(key);
  if (!index) return std::nullopt;
  if (const Text* text = std::get_if<Text>(&object)) return character(*text, *index, runtime);
  const auto* sequence = std::get_if<Sequence*>(&object);
  if (sequence == nullptr || !indexable(**sequence)) return std::nullopt;
  const auto& items = (*sequence)->items;
  const auto size = static_cast<Integer>(items.size());
  if (*index < -size || *index >= size) return std::nullopt;
  return items[static_cast<std::size_t>(*index < 0 ? *index + size : *index)];
}

Value slice(const Value& object, const SliceBounds& bounds, Runtime& runtime) {
  if (const Text* text = std::get_if<Text>(&object)) return slice_text(*text, bounds, runtime);
  const auto* sequence = std::get_if<Sequence*>(&object);
  if (sequence == nullptr || !indexable(**sequence)) {
    fail("'{}' object cannot be sliced", type_name(object));
  }
  const Range range = resolve(bounds, (*sequence)->items.size());
  std::vector<Value> items;
  for (Integer i = 0, at = range.start; i < range.count; ++i, at += range.step) {
    items.push_back((*sequence)->items[static_cast<std::size_t>(at)]);
  }
  const Value result = runtime.heap.sequence((*sequence)->kind, std::move(items));
  if ((*sequence)->kind == SequenceKind::kRange) {
    Sequence& part = *std::get<Sequence*>(result);
    const Sequence& whole = **sequence;
    part.range_step = whole.range_step * range.step;
    part.range_start = whole.range_start + range.start * whole.range_step;
    part.range_stop = part.range_start + range.count * part.range_step;
  }
  return result;
}

}  // namespace tandem::chat::jinja
