// Attribute and item lookup.
#include "chat/jinja/attributes.h"

#include <optional>

#include "chat/jinja/ast.h"
#include "chat/jinja/functions.h"

namespace tandem::chat::jinja {
namespace {

std::optional<Value> loop_attribute(const Loop& loop, std::string_view name) {
  const auto neighbour = [&](std::size_t index) -> Value {
    return index < loop.items.size() ? loop.items[index] : Value(Undefined{});
  };
  const Integer index = loop.index, count = loop.count;
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return count - index;
  if (name == "revindex0") return count - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == count;
  if (name == "length") return count;
  if (name == "depth") return Integer{loop.depth};
  if (name == "depth0") return Integer{loop.depth - 1};
  if (name == "previtem") return loop.index == 0 ? Value(Undefined{}) : neighbour(loop.index - 1);
  if (name == "nextitem") return neighbour(loop.index + 1);
  return std::nullopt;
}

// What Python's getattr finds.
std::optional<Value> own_attribute(const Value& object, std::string_view name, Runtime& runtime) {
  if (const auto* space = std::get_if<Namespace*>(&object)) {
    const Value* found = (*space)->attributes->find(name);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (const auto* loop = std::get_if<Loop*>(&object)) {
    if (auto found = loop_attribute(**loop, name)) return found;
  }
  if (const auto* function = std::get_if<Function*>(&object);
      function != nullptr && name == "name") {
    return runtime.heap.text((*function)->name);
  }
  const NativeEntry* method = find_method(object, name);
  if (method == nullptr) return std::nullopt;
  return runtime.heap.function({.name = method->name, .native = method->native, .self = object});
}

// "message.content": the expression as written, as far as it is a chain of names.
std::string describe(const Expression* expression) {
  std::string path;
  for (int i = 0; i < 8; ++i) {
    if (const auto* name = std::get_if<Name>(&expression->node)) return name->text + path;
    if (const auto* member = std::get_if<Attribute>(&expression->node)) {
      path = fmt::format(".{}{}", member->name, path);
      expression = member->object;
    } else if (const auto* index = std::get_if<Index>(&expression->node)) {
      const auto* key = std::get_if<Literal>(&index->key->node);
      const Text* text = key == nullptr ? nullptr : std::get_if<Text>(&key->value);
      path = text == nullptr ? "[…]" + path : fmt::format("['{}']{}", text->view(), path);
      expression = index->object;
    } else {
      break;
    }
  }
  return "…" + path;
}

}  // namespace

void fail_undefined(const Undefined& undefined) {
  if (undefined.origin == nullptr) fail("a value is undefined");
  fail("'{}' (line {}) is undefined", describe(undefined.origin), undefined.origin->line);
}

Value attribute(const Value& object, std::string_view name, const Expression* origin,
                Runtime& runtime) {
  if (const auto* undefined = std::get_if<Undefined>(&object)) fail_undefined(*undefined);
  if (auto found = own_attribute(object, name, runtime)) return std::move(*found);
  if (const auto* dict = std::get_if<Dict*>(&object)) {
    if (const Value* found = (*dict)->find(name)) return *found;
  }
  return Undefined{origin};
}

Value subscript(const Value& object, const Value& key, const Expression* origin, Runtime& runtime) {
  if (const auto* undefined = std::get_if<Undefined>(&object)) fail_undefined(*undefined);
  if (auto found = item(object, key, runtime)) return std::move(*found);
  if (const Text* name = std::get_if<Text>(&key)) {
    if (auto found = own_attribute(object, name->view(), runtime)) return std::move(*found);
  }
  return Undefined{origin};
}

}  // namespace tandem::chat::jinja
