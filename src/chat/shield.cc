// One walk over the text along a trie of the special texts; time is linear in the text times the
// longest special text.
#include "chat/shield.h"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

namespace tandem::chat {
namespace {

class Trie {
 public:
  explicit Trie(std::span<const std::string> texts) : nodes_(1) {
    for (const std::string& text : texts) {
      if (!text.empty()) insert(text);
    }
  }

  bool empty() const { return nodes_.size() == 1; }

  // Whether any of the texts stands at the beginning of `text`.
  bool matches(std::string_view text) const {
    std::uint32_t node = 0;
    for (const char byte : text) {
      node = child(node, byte);
      if (node == 0) return false;
      if (nodes_[node].ends) return true;
    }
    return false;
  }

 private:
  struct Node {
    std::vector<std::pair<char, std::uint32_t>> children = {};
    bool ends = false;
  };

  std::uint32_t child(std::uint32_t node, char byte) const {
    for (const auto& [key, target] : nodes_[node].children) {
      if (key == byte) return target;
    }
    return 0;
  }

  void insert(std::string_view text) {
    std::uint32_t node = 0;
    for (const char byte : text) {
      std::uint32_t next = child(node, byte);
      if (next == 0) {
        next = static_cast<std::uint32_t>(nodes_.size());
        nodes_[node].children.emplace_back(byte, next);
        nodes_.emplace_back();
      }
      node = next;
    }
    nodes_[node].ends = true;
  }

  std::vector<Node> nodes_;
};

std::string shielded(std::string_view text, const Trie& trie, char mark) {
  std::string out;
  std::size_t copied = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!trie.matches(text.substr(at))) continue;
    out.append(text.substr(copied, at + 1 - copied)).push_back(mark);
    copied = at + 1;
  }
  return out.append(text.substr(copied));
}

}  // namespace

std::string shield(std::string_view text, std::span<const std::string> special_texts, char mark) {
  return shielded(text, Trie(special_texts), mark);
}

void shield_strings(boost::json::value& value, std::span<const std::string> special_texts,
                    char mark) {
  const Trie trie(special_texts);
  if (trie.empty()) return;
  std::vector<boost::json::value*> waiting{
      &value};  // a list, not recursion: values come from clients
  while (!waiting.empty()) {
    boost::json::value& current = *waiting.back();
    waiting.pop_back();
    if (auto* text = current.if_string()) {
      const std::string safe = shielded({text->data(), text->size()}, trie, mark);
      if (safe.size() != text->size()) text->assign(safe.data(), safe.size());
    } else if (auto* items = current.if_array()) {
      for (boost::json::value& item : *items) waiting.push_back(&item);
    } else if (auto* members = current.if_object()) {
      for (auto& member : *members) waiting.push_back(&member.value());
    }
  }
}

}  // namespace tandem::chat
