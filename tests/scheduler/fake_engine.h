// An engine without a model. What it stores for a token depends on the token and on all before it,
// as a model's keys and values do, and its next token on all that is stored in the pages it is
// given: a wrong, stale or half-filled page changes the text.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "engine/engine.h"

namespace tandem::scheduler {

class FakeEngine : public engine::Engine {
 public:
  using Cell = uint64_t;

  explicit FakeEngine(engine::EngineInfo info)
      : info_(info),
        cells_(static_cast<size_t>(info.num_pages * info.page_size), kGarbage),
        tokens_(static_cast<size_t>(info.max_step_sequences)) {
    info_.page_bytes = static_cast<int64_t>(sizeof(Cell)) * info.page_size;
  }

  const engine::EngineInfo& info() const override { return info_; }

  engine::StepResult step(const engine::Batch& batch) override {
    ++steps;
    now += kSecondsPerToken * static_cast<double>(batch.tokens.size());
    if (steps == fail_at || always_fails) throw std::runtime_error("the engine failed");
    EXPECT_LE(static_cast<int>(batch.tokens.size()), info_.max_step_tokens);
    EXPECT_LE(static_cast<int>(batch.sequences.size()), info_.max_step_sequences);
    size_t token = 0;
    for (const engine::SequenceSlice& s : batch.sequences) {
      expect_own_pages(batch, s);
      for (int32_t i = s.position; i < s.position + s.num_tokens; ++i) {
        cell(s, i) = mix(i == 0 ? 0 : cell(s, i - 1), batch.tokens[token++]);
      }
    }
    EXPECT_EQ(token, batch.tokens.size());
    for (size_t i = 0; i < batch.sequences.size(); ++i) {
      const engine::SequenceSlice& s = batch.sequences[i];
      tokens_[i] = {};
      if (!s.sample) continue;
      const int32_t end = s.position + s.num_tokens;
      EXPECT_EQ(static_cast<int32_t>(s.history.size()), end);
      Cell sum = 0;
      for (int32_t j = 0; j < end; ++j) sum = add(sum, cell(s, j));
      tokens_[i].token = pick(sum, s.banned);
    }
    return {.tokens = std::span(tokens_).first(batch.sequences.size())};
  }

  // What it would give for a sequence alone.
  engine::TokenId next_token(std::span<const engine::TokenId> history,
                             std::span<const engine::TokenId> banned = {}) const {
    Cell last = 0, sum = 0;
    for (const engine::TokenId id : history) {
      last = mix(last, id);
      sum = add(sum, last);
    }
    return pick(sum, banned);
  }

  void read_page(int32_t page, std::span<std::byte> out) override {
    EXPECT_EQ(static_cast<int64_t>(out.size()), info_.page_bytes);
    std::memcpy(out.data(), page_cells(page), out.size());
  }
  void write_page(int32_t page, std::span<const std::byte> in) override {
    EXPECT_EQ(static_cast<int64_t>(in.size()), info_.page_bytes);
    std::memcpy(page_cells(page), in.data(), in.size());
  }
  void copy_page(int32_t from, int32_t to) override {
    EXPECT_NE(from, to);
    std::copy_n(page_cells(from), info_.page_size, page_cells(to));
    ++copies;
  }

  static constexpr double kSecondsPerToken = 1e-3;
  static constexpr Cell kGarbage = 0xdeadbeefdeadbeefULL;
  int steps = 0;
  int fail_at = -1;
  bool always_fails = false;
  int copies = 0;
  double now = 0.0;  // the virtual clock

 private:
  static Cell mix(Cell previous, engine::TokenId token) {
    const Cell x = (previous ^ (static_cast<Cell>(token) + 1)) * 0x9e3779b97f4a7c15ULL;
    return x ^ (x >> 29);
  }
  static Cell add(Cell sum, Cell cell) { return (sum ^ cell) * 1099511628211ULL; }

  engine::TokenId pick(Cell sum, std::span<const engine::TokenId> banned) const {
    auto token =
        static_cast<engine::TokenId>((sum >> 20) % static_cast<uint64_t>(info_.vocab_size));
    while (std::find(banned.begin(), banned.end(), token) != banned.end())
      token = (token + 1) % info_.vocab_size;
    return token;
  }

  Cell* page_cells(int32_t page) { return cells_.data() + page * info_.page_size; }

  Cell& cell(const engine::SequenceSlice& s, int32_t position) {
    const auto index = static_cast<size_t>(position / info_.page_size);
    EXPECT_LT(index, s.pages.size());
    return page_cells(s.pages[index])[position % info_.page_size];
  }

  // Pages may be shared, but those that a slice writes are its own.
  void expect_own_pages(const engine::Batch& batch, const engine::SequenceSlice& s) const {
    for (auto i = static_cast<size_t>(s.position / info_.page_size); i < s.pages.size(); ++i) {
      for (const engine::SequenceSlice& other : batch.sequences) {
        if (&other == &s) continue;
        EXPECT_EQ(std::count(other.pages.begin(), other.pages.end(), s.pages[i]), 0)
            << "page " << s.pages[i] << " is written and in another sequence";
      }
    }
  }

  engine::EngineInfo info_;
  std::vector<Cell> cells_;  // [P, S]
  std::vector<engine::SampledToken> tokens_;
};

}  // namespace tandem::scheduler
