// An engine without a model. What it stores for a token depends on the token and on all before it,
// as a model's keys and values do, and its next token on all that is stored in the pages it is
// given: a wrong, stale or half-filled page changes the text. While a step runs, it sees to it that
// the batch stays as it is and that nobody touches the pages that are written.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>
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

  // Writes the pages at once or, in every other step, leaves garbage there until finish().
  void begin(const engine::Batch& batch) override {
    ++steps;
    EXPECT_FALSE(begun_) << "two steps at once";
    EXPECT_FALSE(batch.tokens.empty());
    EXPECT_LE(static_cast<int>(batch.tokens.size()), info_.max_step_tokens);
    EXPECT_LE(static_cast<int>(batch.sequences.size()), info_.max_step_sequences);
    if (fails_in_begin && (steps == fail_at || always_fails)) fail();
    begun_ = Begun{batch, copy_of(batch)};
    {
      const std::lock_guard lock(mutex_);
      for (const engine::SequenceSlice& s : batch.sequences) note_pages(s);
    }
    write(/*garbage=*/steps % 2 == 0);
  }

  bool running() override {
    EXPECT_TRUE(begun_);
    return busy;
  }

  bool broken() override { return breaks && steps >= fail_at; }

  engine::StepResult finish() override {
    EXPECT_TRUE(begun_);
    const engine::Batch batch = begun_->batch;
    EXPECT_TRUE(begun_->copy == copy_of(batch)) << "the batch changed while it ran";
    now += kSecondsPerToken * static_cast<double>(batch.tokens.size());
    if (steps % 2 == 0) write(/*garbage=*/false);
    begun_.reset();
    {
      const std::lock_guard lock(mutex_);
      written_.clear();
      used_.clear();
    }
    if (steps == fail_at || always_fails || broken()) fail();
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
    expect_stands_still(page);
    std::memcpy(out.data(), page_cells(page), out.size());
  }
  void write_page(int32_t page, std::span<const std::byte> in) override {
    EXPECT_EQ(static_cast<int64_t>(in.size()), info_.page_bytes);
    expect_unused(page);
    std::memcpy(page_cells(page), in.data(), in.size());
  }
  void copy_page(int32_t from, int32_t to) override {
    EXPECT_NE(from, to);
    expect_stands_still(from);
    expect_unused(to);
    std::copy_n(page_cells(from), info_.page_size, page_cells(to));
    ++copies;
  }

  static constexpr double kSecondsPerToken = 1e-3;
  static constexpr Cell kGarbage = 0xdeadbeefdeadbeefULL;
  int steps = 0;
  int fail_at = -1;
  bool always_fails = false;
  bool breaks = false;          // from fail_at on
  bool fails_in_begin = false;  // else in finish()
  std::atomic<bool> busy{false};
  int copies = 0;
  double now = 0.0;  // the virtual clock

 private:
  // All that a batch refers to.
  struct Copy {
    std::vector<engine::TokenId> tokens;
    struct Slice {
      int32_t num_tokens, position;
      std::vector<int32_t> pages;
      std::vector<engine::TokenId> history;
      bool operator==(const Slice&) const = default;
    };
    std::vector<Slice> slices;
    bool operator==(const Copy&) const = default;
  };
  struct Begun {
    engine::Batch batch;
    Copy copy;
  };

  static Copy copy_of(const engine::Batch& batch) {
    Copy copy{{batch.tokens.begin(), batch.tokens.end()}, {}};
    for (const engine::SequenceSlice& s : batch.sequences) {
      copy.slices.push_back({s.num_tokens,
                             s.position,
                             {s.pages.begin(), s.pages.end()},
                             {s.history.begin(), s.history.end()}});
    }
    return copy;
  }

  [[noreturn]] static void fail() { throw std::runtime_error("the engine failed"); }

  void note_pages(const engine::SequenceSlice& s) {
    used_.insert(s.pages.begin(), s.pages.end());
    written_.insert(s.pages.begin() + s.position / info_.page_size, s.pages.end());
  }

  void write(bool garbage) {
    const engine::Batch& batch = begun_->batch;
    size_t token = 0;
    for (const engine::SequenceSlice& s : batch.sequences) {
      expect_own_pages(batch, s);
      for (int32_t i = s.position; i < s.position + s.num_tokens; ++i, ++token) {
        cell(s, i) = garbage ? kGarbage : mix(i == 0 ? 0 : cell(s, i - 1), batch.tokens[token]);
      }
    }
    EXPECT_EQ(token, batch.tokens.size());
  }

  void expect_stands_still(int32_t page) {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(written_.contains(page)) << "page " << page << " is read while it is written";
  }
  void expect_unused(int32_t page) {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(used_.contains(page)) << "page " << page << " is written while a step uses it";
  }

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
  std::optional<Begun> begun_;
  std::mutex mutex_;                  // of what follows: copies run on other threads
  std::set<int32_t> used_, written_;  // pages of the step that runs
};

}  // namespace tandem::scheduler
