// Storage of values: metered text, ordered dictionaries, the heap of a rendering.
#include "chat/jinja/value.h"

#include <algorithm>

#include "chat/jinja/operations.h"

namespace tandem::chat::jinja {
namespace {

constexpr std::size_t kTextOverhead = 64;  // control block, string header, allocator
constexpr std::size_t kAbsent = static_cast<std::size_t>(-1);

}  // namespace

Text::Text(std::string bytes, bool markup, Meter* meter)
    : body_(std::make_shared<const Body>(std::move(bytes), markup, meter)) {}

Text::Body::Body(std::string text, bool is_markup, Meter* payer)
    : bytes(std::move(text)), markup(is_markup), meter(payer) {
  if (meter != nullptr) meter->take(bytes.size() + kTextOverhead);
}

Text::Body::~Body() {
  if (meter != nullptr) meter->give_back(bytes.size() + kTextOverhead);
}

const Value* Dict::find(std::string_view key) const {
  const std::size_t at = position(key);
  return at == kAbsent ? nullptr : &entries_[at].second;
}

const Value* Dict::find(const Value& key) const {
  const std::size_t at = position(key);
  return at == kAbsent ? nullptr : &entries_[at].second;
}

void Dict::set(Value key, Value value) {
  const std::size_t at = position(key);
  if (at == kAbsent) {
    append(std::move(key), std::move(value));
  } else {
    entries_[at].second = std::move(value);
  }
}

bool Dict::erase(const Value& key) {
  const std::size_t at = position(key);
  if (at == kAbsent) return false;
  meter_->step(entries_.size());
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(at));
  by_text_.clear();
  return true;
}

void Dict::append(Value key, Value value) {
  meter_->take(sizeof(Entry));
  entries_.emplace_back(std::move(key), std::move(value));
  by_text_.clear();
}

// Sorted rather than hashed: no set of keys makes it slow.
std::size_t Dict::position(std::string_view key) const {
  if (entries_.size() <= kUnindexed) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Text* text = std::get_if<Text>(&entries_[i].first);
      if (text != nullptr && text->view() == key) return i;
    }
    return kAbsent;
  }
  const auto text_of = [this](std::uint32_t i) { return std::get<Text>(entries_[i].first).view(); };
  if (by_text_.empty()) {
    meter_->step(entries_.size());
    for (std::uint32_t i = 0; i < entries_.size(); ++i) {
      if (is<Text>(entries_[i].first)) by_text_.push_back(i);
    }
    std::sort(by_text_.begin(), by_text_.end(),
              [&](std::uint32_t a, std::uint32_t b) { return text_of(a) < text_of(b); });
  }
  const auto found =
      std::lower_bound(by_text_.begin(), by_text_.end(), key,
                       [&](std::uint32_t i, std::string_view k) { return text_of(i) < k; });
  return found != by_text_.end() && text_of(*found) == key ? *found : kAbsent;
}

std::size_t Dict::position(const Value& key) const {
  if (const Text* text = std::get_if<Text>(&key)) return position(text->view());
  require_hashable(key);
  meter_->step(entries_.size() / 8);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const Value& candidate = entries_[i].first;
    if (is<Text>(candidate)) continue;
    if (equal(candidate, key, *meter_)) return i;
  }
  return kAbsent;
}

Value Heap::text(std::string bytes, bool markup) {
  meter_.touch_text(bytes.size());
  return Text(std::move(bytes), markup, &meter_);
}

Value Heap::sequence(SequenceKind kind, std::vector<Value> items) {
  meter_.take(sizeof(Sequence) + items.size() * sizeof(Value));
  meter_.step(items.size() / 8);
  Sequence& sequence = sequences_.emplace_back();
  sequence.kind = kind;
  sequence.items = std::move(items);
  return &sequence;
}

Dict* Heap::dict() {
  meter_.take(sizeof(Dict));
  return &dicts_.emplace_back(meter_);
}

Namespace* Heap::new_namespace() {
  meter_.take(sizeof(Namespace));
  return &namespaces_.emplace_back(Namespace{dict()});
}

Function* Heap::function(Function function) {
  meter_.take(sizeof(Function));
  return &functions_.emplace_back(std::move(function));
}

Loop* Heap::loop() {
  meter_.take(sizeof(Loop));
  return &loops_.emplace_back();
}

}  // namespace tandem::chat::jinja
