// Merging with a heap over a linked list of symbols: O(n log n) for a piece of n characters.
#include "tokenizer/bpe.h"

#include <algorithm>
#include <queue>

namespace tandem::tokenizer {
namespace {

struct Node {
  int32_t symbol;  // -1: merged into its left neighbour
  int32_t previous;
  int32_t next;
};

struct Candidate {
  int32_t rank;
  int32_t left;         // node
  int32_t left_symbol;  // as they were when the candidate was found
  int32_t right_symbol;
  int32_t merged;

  // For a heap whose top is the lowest rank, then the leftmost.
  bool operator<(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BpeMerger::BpeMerger(const TokenMap& tokens,
                     const std::vector<std::pair<std::string, std::string>>& merges) {
  for (const auto& [text, id] : tokens) {
    symbols_.emplace(text, static_cast<TokenId>(token_of_symbol_.size()));
    token_of_symbol_.push_back(id);
  }
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t merged = intern(left + right);
    merges_.try_emplace(pair_key(intern(left), intern(right)),
                        Merge{static_cast<int32_t>(rank), merged});
  }
}

int32_t BpeMerger::symbol_of(std::string_view text) const {
  const auto found = symbols_.find(text);
  return found == symbols_.end() ? -1 : found->second;
}

int32_t BpeMerger::intern(const std::string& text) {
  const auto [entry, added] =
      symbols_.try_emplace(text, static_cast<TokenId>(token_of_symbol_.size()));
  if (added) token_of_symbol_.push_back(-1);
  return entry->second;
}

void BpeMerger::merge(const std::vector<std::string_view>& parts, std::vector<TokenId>& out) const {
  std::vector<Node> nodes;
  nodes.reserve(parts.size());
  for (const std::string_view part : parts) {
    const int32_t symbol = symbol_of(part);
    if (symbol < 0) continue;
    const auto index = static_cast<int32_t>(nodes.size());
    nodes.push_back({symbol, index - 1, index + 1});
  }
  if (nodes.empty()) return;
  nodes.back().next = -1;

  std::priority_queue<Candidate> candidates;
  const auto consider = [&](int32_t left) {
    if (left < 0 || nodes[static_cast<size_t>(left)].next < 0) return;
    const Node& a = nodes[static_cast<size_t>(left)];
    const Node& b = nodes[static_cast<size_t>(a.next)];
    const auto found = merges_.find(pair_key(a.symbol, b.symbol));
    if (found == merges_.end()) return;
    candidates.push({found->second.rank, left, a.symbol, b.symbol, found->second.symbol});
  };
  for (size_t i = 0; i + 1 < nodes.size(); ++i) consider(static_cast<int32_t>(i));
  while (!candidates.empty()) {
    const Candidate c = candidates.top();
    candidates.pop();
    Node& left = nodes[static_cast<size_t>(c.left)];
    if (left.symbol != c.left_symbol || left.next < 0) continue;
    Node& right = nodes[static_cast<size_t>(left.next)];
    if (right.symbol != c.right_symbol) continue;
    left.symbol = c.merged;
    left.next = right.next;
    right.symbol = -1;
    if (left.next >= 0) nodes[static_cast<size_t>(left.next)].previous = c.left;
    consider(left.previous);
    consider(c.left);
  }

  for (int32_t i = 0; i >= 0; i = nodes[static_cast<size_t>(i)].next) {
    const TokenId id = token_of_symbol_[static_cast<size_t>(nodes[static_cast<size_t>(i)].symbol)];
    if (id >= 0) out.push_back(id);
  }
}

}  // namespace tandem::tokenizer
