// Counts, chains and one list.
#include "scheduler/page_pool.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace tandem::scheduler {
namespace {

// All prompts begin after the same name, so its children may be thousands; the newest of them are
// looked at.
constexpr int kChildrenLookedAt = 256;

}  // namespace

PagePool::PagePool(int32_t pages, int32_t page_size)
    : page_size_(page_size),
      pages_(static_cast<size_t>(pages)),
      tokens_(static_cast<size_t>(pages) * static_cast<size_t>(page_size)),
      free_(static_cast<size_t>(pages)),
      by_name_(pages),
      by_parent_(pages) {
  std::iota(free_.rbegin(), free_.rend(), 0);  // page 0 is taken first
}

std::span<TokenId> PagePool::tokens_of(int32_t page) {
  const auto size = static_cast<size_t>(page_size_);
  return std::span(tokens_).subspan(static_cast<size_t>(page) * size, size);
}

std::span<const TokenId> PagePool::tokens_of(int32_t page) const {
  const auto size = static_cast<size_t>(page_size_);
  return std::span(tokens_).subspan(static_cast<size_t>(page) * size, size);
}

int32_t PagePool::take() {
  TANDEM_CHECK(available() > 0, "no page of {} is available", total());
  int32_t page;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else {
    page = oldest_;
    while (at(page).pinned) page = at(page).newer;
    remove_idle(page);
    unlink(page);
  }
  at(page).holders = 1;
  return page;
}

void PagePool::acquire(int32_t page) {
  if (at(page).holders++ > 0) return;
  TANDEM_CHECK(static_cast<bool>(at(page).name), "page {} is free", page);
  remove_idle(page);
}

void PagePool::release(int32_t page) {
  Page& p = at(page);
  TANDEM_CHECK(p.holders > 0, "page {} is released once too often", page);
  if (--p.holders > 0) return;
  if (p.name) {
    add_idle(page);
  } else {
    free_.push_back(page);
  }
}

void PagePool::add_idle(int32_t page) {
  Page& p = at(page);
  p.older = newest_;
  p.newer = kNone;
  (newest_ == kNone ? oldest_ : at(newest_).newer) = page;
  newest_ = page;
  ++idle_;
  pinned_idle_ += p.pinned;
}

void PagePool::remove_idle(int32_t page) {
  Page& p = at(page);
  (p.older == kNone ? oldest_ : at(p.older).newer) = p.newer;
  (p.newer == kNone ? newest_ : at(p.newer).older) = p.older;
  --idle_;
  pinned_idle_ -= p.pinned;
}

void PagePool::pin(int32_t page) {
  Page& p = at(page);
  TANDEM_CHECK(p.name && !p.pinned, "page {} cannot be pinned", page);
  p.pinned = true;
  pinned_idle_ += p.holders == 0;
}

void PagePool::unpin(int32_t page) {
  Page& p = at(page);
  TANDEM_CHECK(p.pinned, "page {} is not pinned", page);
  p.pinned = false;
  pinned_idle_ -= p.holders == 0;
}

int32_t PagePool::find(const PageName& name) const {
  int32_t page = by_name_.first(name.low);
  while (page != kNone && at(page).name != name) page = by_name_.next(page);
  return page;
}

int32_t PagePool::set_name(int32_t page, const PageName& name, const PageName& parent,
                           std::span<const TokenId> tokens) {
  Page& p = at(page);
  TANDEM_CHECK(p.holders > 0 && !p.name, "page {} cannot be named", page);
  TANDEM_CHECK(static_cast<int32_t>(tokens.size()) == page_size_, "{} tokens", tokens.size());
  if (const int32_t other = find(name); other != kNone) return other;
  p.name = name;
  p.parent = parent;
  std::copy(tokens.begin(), tokens.end(), tokens_of(page).begin());
  by_name_.insert(name.low, page);
  by_parent_.insert(parent.low, page);
  return page;
}

void PagePool::forget_name(int32_t page) {
  const bool idle = is_idle(page);
  if (idle) remove_idle(page);
  unlink(page);
  if (idle) free_.push_back(page);
}

void PagePool::unlink(int32_t page) {
  Page& p = at(page);
  TANDEM_CHECK(p.name && !p.pinned, "page {} has no name to forget", page);
  by_name_.remove(p.name.low, page);
  by_parent_.remove(p.parent.low, page);
  p.name = {};
}

PagePool::Child PagePool::best_child(const PageName& parent,
                                     std::span<const TokenId> tokens) const {
  Child best;
  int32_t page = by_parent_.first(parent.low);
  for (int i = 0; page != kNone && i < kChildrenLookedAt; ++i, page = by_parent_.next(page)) {
    if (at(page).parent != parent || at(page).filling) continue;
    const std::span<const TokenId> own = tokens_of(page);
    const auto differ = std::mismatch(own.begin(), own.end(), tokens.begin(), tokens.end()).first;
    const auto common = static_cast<int32_t>(differ - own.begin());
    if (common > best.tokens) best = {page, common};
  }
  return best;
}

}  // namespace tandem::scheduler
