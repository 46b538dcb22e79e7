// An engine without a model: its next token is a hash of the sequence so far, and it checks at
// every step that the pages of a slice hold exactly that sequence's earlier tokens.
#pragma once

#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"

namespace tandem::scheduler {

class FakeEngine : public engine::Engine {
 public:
  explicit FakeEngine(engine::EngineInfo info)
      : info_(info),
        cells_(static_cast<size_t>(info.num_pages * info.page_size), -1),
        tokens_(static_cast<size_t>(info.max_step_sequences)) {}

  const engine::EngineInfo& info() const override { return info_; }

  engine::StepResult step(const engine::Batch& batch) override {
    ++steps;
    if (steps == fail_at || always_fails) throw std::runtime_error("the engine failed");
    EXPECT_LE(static_cast<int>(batch.tokens.size()), info_.max_step_tokens);
    EXPECT_LE(static_cast<int>(batch.sequences.size()), info_.max_step_sequences);
    std::vector<bool> used(static_cast<size_t>(info_.num_pages));
    size_t token = 0;
    for (size_t i = 0; i < batch.sequences.size(); ++i) {
      const engine::SequenceSlice& s = batch.sequences[i];
      for (const int32_t page : s.pages) {
        EXPECT_FALSE(used[static_cast<size_t>(page)]) << "page " << page << " is in two sequences";
        used[static_cast<size_t>(page)] = true;
      }
      for (int32_t j = 0; j < s.num_tokens; ++j) {
        cell(s, s.position + j) = batch.tokens[token++];
      }
      tokens_[i] = {};
      if (!s.sample) continue;
      const int32_t end = s.position + s.num_tokens;
      EXPECT_EQ(static_cast<int32_t>(s.history.size()), end);
      for (int32_t j = 0; j < end; ++j) {
        EXPECT_EQ(cell(s, j), s.history[static_cast<size_t>(j)]) << "position " << j;
      }
      tokens_[i].token = next_token(s.history, s.banned);
    }
    EXPECT_EQ(token, batch.tokens.size());
    return {.tokens = std::span(tokens_).first(batch.sequences.size())};
  }

  engine::TokenId next_token(std::span<const engine::TokenId> history,
                             std::span<const engine::TokenId> banned = {}) const {
    uint64_t hash = 1469598103934665603ULL;
    for (const engine::TokenId id : history)
      hash = (hash ^ static_cast<uint64_t>(id)) * 1099511628211ULL;
    auto token =
        static_cast<engine::TokenId>((hash >> 20) % static_cast<uint64_t>(info_.vocab_size));
    while (std::find(banned.begin(), banned.end(), token) != banned.end())
      token = (token + 1) % info_.vocab_size;
    return token;
  }

  int steps = 0;
  int fail_at = -1;
  bool always_fails = false;

 private:
  engine::TokenId& cell(const engine::SequenceSlice& s, int32_t position) {
    const size_t index = static_cast<size_t>(position / info_.page_size);
    EXPECT_LT(index, s.pages.size());
    return cells_[static_cast<size_t>(s.pages[index] * info_.page_size +
                                      position % info_.page_size)];
  }

  engine::EngineInfo info_;
  std::vector<engine::TokenId> cells_;  // [P, S] the token at each place of the cache
  std::vector<engine::SampledToken> tokens_;
};

}  // namespace tandem::scheduler
