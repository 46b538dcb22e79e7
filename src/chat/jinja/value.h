// The values a template computes with: Python's types as far as templates can see them. Text is
// shared and counted; containers belong to the rendering's Heap, so cycles and deep nesting cost
// nothing to free.
#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja/meter.h"

namespace tandem::chat::jinja {

// Wide enough for every integer Boost.JSON can hold; overflow is an error instead of Python's
// growth.
__extension__ using Integer = __int128;

struct Expression;
struct Macro;
struct Scope;
struct Sequence;
struct Namespace;
struct Function;
struct Loop;
class Dict;

// Bytes that normally are UTF-8; any stray byte passes through as a character of its own.
class Text {
 public:
  explicit Text(std::string bytes, bool markup = false, Meter* meter = nullptr);

  std::string_view view() const { return body_->bytes; }
  // Python's Markup (made by `safe` and `escape`): `+` escapes what it is joined with.
  bool markup() const { return body_->markup; }

 private:
  struct Body {
    std::string bytes;
    bool markup;
    Meter* meter;  // null: a constant of the template, which outlives renderings

    Body(std::string bytes, bool markup, Meter* meter);
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    ~Body();
  };
  std::shared_ptr<const Body> body_;
};

struct Undefined {
  const Expression* origin = nullptr;  // what was looked up in vain, for messages
};
struct None {};

using Value = std::variant<Undefined, None, bool, Integer, double, Text, Sequence*, Dict*,
                           Namespace*, Function*, Loop*>;

template <typename T>
bool is(const Value& value) {
  return std::holds_alternative<T>(value);
}

enum class SequenceKind { kList, kTuple, kRange, kKeys, kValues, kItems, kIterator };

struct Sequence {
  SequenceKind kind;
  std::vector<Value> items;
  Integer range_start = 0, range_stop = 0, range_step = 1;  // kRange only
};

// Keeps insertion order. Keys are hashable values; 1, 1.0 and true are the same key.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  explicit Dict(Meter& meter) : meter_(&meter) {}

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }

  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  void set(Value key, Value value);
  bool erase(const Value& key);
  // For keys known to be new, such as those of a parsed JSON object.
  void append(Value key, Value value);

 private:
  static constexpr std::size_t kUnindexed = 12;  // up to here a scan is as fast

  std::size_t position(std::string_view key) const;
  std::size_t position(const Value& key) const;

  std::vector<Entry> entries_;
  mutable std::vector<std::uint32_t> by_text_;  // text keys in order; empty: not built
  Meter* meter_;
};

struct Namespace {
  Dict* attributes;
};

struct Runtime;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// self: the filtered or tested value, or the receiver of a method.
using Native = Value (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

struct Function {
  std::string_view name;
  Native native = nullptr;
  Value self = None{};
  const Macro* macro = nullptr;  // instead of native
  Scope* scope = nullptr;        // where the macro was defined
};

struct Loop {
  std::vector<Value> items;  // emptied when the loop ends
  std::size_t count = 0;
  std::size_t index = 0;
  int depth = 0;
  std::optional<std::vector<Value>> last_changed;  // arguments of the latest changed()
};

// Owns every container of a rendering.
class Heap {
 public:
  explicit Heap(Meter& meter) : meter_(meter) {}

  Value text(std::string bytes, bool markup = false);
  Value text(std::string_view bytes, bool markup = false) {
    return text(std::string(bytes), markup);
  }
  Value sequence(SequenceKind kind, std::vector<Value> items);
  Value list(std::vector<Value> items) { return sequence(SequenceKind::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(SequenceKind::kTuple, std::move(items)); }
  Value iterator(std::vector<Value> items) {
    return sequence(SequenceKind::kIterator, std::move(items));
  }
  Dict* dict();
  Namespace* new_namespace();
  Function* function(Function function);
  Loop* loop();

 private:
  Meter& meter_;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Namespace> namespaces_;
  std::deque<Function> functions_;
  std::deque<Loop> loops_;
};

// What filters, tests and methods work with.
struct Runtime {
  explicit Runtime(const std::tm& local_time) : now(local_time) {}

  std::tm now;
  Meter meter;
  Heap heap{meter};
};

}  // namespace tandem::chat::jinja
