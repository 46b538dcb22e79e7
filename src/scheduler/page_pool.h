// The engine's KV pages: who holds them, what they are named, which are to be taken next. Pages are
// numbers; what they hold is the engine's business.
//
//                 take                     release
//   free  ------------------>  held  ------------------->  free          (no name)
//                               ^  \-------------------->  idle          (named: stays findable)
//                               |          acquire          |
//                               +---------------------------+
//   idle  -- take, when nothing is free: the one used the longest ago ->  held, its name forgotten
//
// A pinned page is being copied from or to: it is idle or held like any other, but not taken. One
// that is being filled has its name already, so that others who want it wait for it; its contents
// are not to be read yet.
#pragma once

#include <span>
#include <vector>

#include "scheduler/page_index.h"
#include "scheduler/page_name.h"

namespace tandem::scheduler {

using engine::TokenId;

class PagePool {
 public:
  static constexpr int32_t kNone = PageIndex::kNone;

  PagePool(int32_t pages, int32_t page_size);

  int32_t total() const { return static_cast<int32_t>(pages_.size()); }
  // Pages that take() can give now: free and idle ones, less those pinned.
  int32_t available() const { return free_count() + idle_ - pinned_idle_; }
  int32_t idle() const { return idle_; }
  // Pages that nobody holds, but that a copy keeps from being taken.
  int32_t pinned_idle() const { return pinned_idle_; }

  // A page for one holder; there must be one available.
  int32_t take();
  // One more holder.
  void acquire(int32_t page);
  void release(int32_t page);
  int32_t holders(int32_t page) const { return at(page).holders; }
  bool is_idle(int32_t page) const { return holders(page) == 0; }

  // A named page is not taken while it is pinned, whoever holds it.
  void pin(int32_t page);
  void unpin(int32_t page);
  bool is_pinned(int32_t page) const { return at(page).pinned; }

  // Whether a page that somebody has pinned is being filled.
  void set_filling(int32_t page, bool filling) { at(page).filling = filling; }
  bool is_filling(int32_t page) const { return at(page).filling; }

  int32_t find(const PageName& name) const;
  const PageName& name(int32_t page) const { return at(page).name; }
  // Names a held page. The page that has the name from now on: another one where it was taken.
  int32_t set_name(int32_t page, const PageName& name, const PageName& parent,
                   std::span<const TokenId> tokens);
  // Its holders keep the page; without any it is free.
  void forget_name(int32_t page);

  // The full page after `parent` that begins with the most of `tokens`, and how many those are.
  struct Child {
    int32_t page = kNone;
    int32_t tokens = 0;
  };
  Child best_child(const PageName& parent, std::span<const TokenId> tokens) const;

 private:
  struct Page {
    int32_t holders = 0;
    bool pinned = false;
    bool filling = false;
    PageName name;                         // none: not to be found
    PageName parent;                       // of a named page
    int32_t older = kNone, newer = kNone;  // neighbours among idle pages
  };

  Page& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }
  const Page& at(int32_t page) const { return pages_[static_cast<size_t>(page)]; }
  int32_t free_count() const { return static_cast<int32_t>(free_.size()); }
  std::span<TokenId> tokens_of(int32_t page);
  std::span<const TokenId> tokens_of(int32_t page) const;
  void unlink(int32_t page);
  void add_idle(int32_t page);
  void remove_idle(int32_t page);

  const int32_t page_size_;
  std::vector<Page> pages_;      // [P]
  std::vector<TokenId> tokens_;  // [P, S] of named pages
  std::vector<int32_t> free_;
  PageIndex by_name_, by_parent_;
  int32_t oldest_ = kNone, newest_ = kNone;  // idle pages by last use
  int32_t idle_ = 0;
  int32_t pinned_idle_ = 0;
};

}  // namespace tandem::scheduler
