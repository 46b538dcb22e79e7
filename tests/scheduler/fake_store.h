// Lower tiers in virtual time: copies take as long as chance says, fail at times, and what is
// stored is lost at times. Checks what the scheduler owes a copy: that its page stands still, and
// that equal names stand for equal bytes.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/page_store.h"
#include "tests/scheduler/fake_engine.h"

namespace tandem::scheduler {

class FakeStore : public PageStore {
 public:
  struct Nature {
    double longest_copy = 0.0;  // seconds
    int failures = 0;           // of 100 copies
    size_t capacity = 1000;     // pages
  };

  FakeStore(FakeEngine& engine, Nature nature, uint32_t seed)
      : engine_(engine), nature_(nature), generator_(seed) {}

  bool has(const PageName& name) const override { return pages_.contains(key(name)); }
  void touch(std::span<const PageName>) override {}

  void save(const PageName& name, int32_t page) override {
    begin({Done::Kind::kSave, page, !fails()}, name, contents(page));
  }

  void load(const PageName& name, int32_t page) override {
    begin({Done::Kind::kLoad, page, !fails()}, name, {});
    fill_with_garbage(page);
  }

  void take_done(std::vector<Done>& out) override {
    for (Copy& copy : copies_) {
      if (copy.end > engine_.now) continue;
      finish(copy);
      out.push_back(copy.done);
      copy.end = -1.0;
    }
    std::erase_if(copies_, [](const Copy& copy) { return copy.end < 0.0; });
  }

  double save_speed() const override { return speed; }
  double load_speed() const override { return speed; }
  TierStats stats() const override { return {}; }

  // Lets the clock run to the next end of a copy.
  void wait() {
    ASSERT_FALSE(copies_.empty());
    const auto first = std::min_element(copies_.begin(), copies_.end(),
                                        [](const auto& a, const auto& b) { return a.end < b.end; });
    engine_.now = std::max(engine_.now, first->end);
  }
  bool busy() const { return !copies_.empty(); }

  double speed = 0.0;  // bytes a second, as the scheduler is told
  int saves = 0, loads = 0;

 private:
  using Bytes = std::vector<std::byte>;
  using Key = std::pair<uint64_t, uint64_t>;
  struct Copy {
    Done done;
    PageName name;
    Bytes contents;  // of a page to save, as it was at the beginning
    double end;
  };

  static Key key(const PageName& name) { return {name.high, name.low}; }
  uint32_t random(uint32_t below) { return static_cast<uint32_t>(generator_() % below); }
  bool fails() { return static_cast<int>(random(100)) < nature_.failures; }

  Bytes contents(int32_t page) {
    Bytes bytes(static_cast<size_t>(engine_.info().page_bytes));
    engine_.read_page(page, bytes);
    return bytes;
  }

  void fill_with_garbage(int32_t page) {
    engine_.write_page(
        page, Bytes(static_cast<size_t>(engine_.info().page_bytes), std::byte(random(256))));
  }

  void begin(const Done& done, const PageName& name, Bytes bytes) {
    for (const Copy& other : copies_) EXPECT_NE(other.done.page, done.page) << "copied twice";
    const double seconds = nature_.longest_copy * random(100) / 100.0;
    copies_.push_back({done, name, std::move(bytes), engine_.now + seconds});
  }

  void finish(Copy& copy) {
    if (copy.done.kind == Done::Kind::kSave) {
      ++saves;
      EXPECT_EQ(contents(copy.done.page), copy.contents) << "changed while it was copied";
      const auto known = all_.emplace(key(copy.name), copy.contents).first;
      EXPECT_EQ(known->second, copy.contents) << "one name for different pages";
      if (!copy.done.ok) return;
      if (pages_.size() >= nature_.capacity) {
        pages_.erase(std::next(pages_.begin(), random(static_cast<uint32_t>(pages_.size()))));
      }
      pages_[key(copy.name)] = copy.contents;
      return;
    }
    ++loads;
    const auto found = pages_.find(key(copy.name));
    copy.done.ok &= found != pages_.end();
    if (copy.done.ok) {
      engine_.write_page(copy.done.page, found->second);
    } else if (random(2) == 0 && found != pages_.end()) {
      pages_.erase(found);  // damaged files are removed; a disk's fault may come again
    }
  }

  FakeEngine& engine_;
  const Nature nature_;
  std::mt19937 generator_;
  std::map<Key, Bytes> pages_;
  std::map<Key, Bytes> all_;  // that ever were saved
  std::vector<Copy> copies_;  // under way
};

}  // namespace tandem::scheduler
