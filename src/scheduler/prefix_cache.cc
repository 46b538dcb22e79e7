// Attach, fetch, copy, name, release; and the queue of pages to save.
#include "scheduler/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/speeds.h"

namespace tandem::scheduler {

PrefixCache::PrefixCache(engine::Engine& engine, PageStore* store, const Settings& settings)
    : engine_(engine),
      store_(settings.enabled ? store : nullptr),
      settings_(settings),
      page_size_(engine.info().page_size),
      page_bytes_(static_cast<double>(engine.info().page_bytes)),
      pool_(engine.info().num_pages, page_size_),
      to_save_(static_cast<size_t>(engine.info().num_pages)),
      is_to_save_(static_cast<size_t>(engine.info().num_pages)) {}

std::span<const TokenId> PrefixCache::page_tokens(const Sequence& s, int32_t index) const {
  const auto size = static_cast<size_t>(page_size_);
  return std::span(s.tokens).subspan(static_cast<size_t>(index) * size, size);
}

const PageName& PrefixCache::parent_of(const Sequence& s, int32_t index) {
  TANDEM_CHECK(static_cast<size_t>(index) < s.names.size(), "page {} of {} names", index,
               s.names.size());
  return s.names[static_cast<size_t>(index)];
}

void PrefixCache::prepare(Sequence& s) const {
  s.pages.reserve(static_cast<size_t>(pages_for(s.max_total)));
  if (!settings_.enabled) return;
  s.names.reserve(static_cast<size_t>(pages_for(s.max_total)) + 1);
  s.names.push_back(root_name(settings_.model_identity, s.request.cache_scope));
  for (int32_t i = 0; i < pages_to_find(s); ++i) {
    s.names.push_back(page_name(parent_of(s, i), page_tokens(s, i)));
  }
}

bool PrefixCache::fits(const Sequence& s, int32_t promised) const {
  int32_t found = 0, idle = 0;
  while (settings_.enabled && found < pages_to_find(s)) {
    const int32_t page = pool_.find(name_of(s, found));
    if (page == PagePool::kNone) break;
    idle += pool_.is_idle(page) && !pool_.is_pinned(page);
    ++found;
  }
  return pages_for(s.size()) - found <= pool_.available() - idle - promised;
}

void PrefixCache::set_computed(Sequence& s, int32_t computed) {
  const int32_t known = std::max(s.computed, s.reached);
  const int32_t hits = std::min(computed, s.prompt_tokens) - std::min(known, s.prompt_tokens);
  s.cached_tokens += std::max(hits, 0);
  hit_tokens_ += static_cast<uint64_t>(std::max(hits, 0));
  s.computed = computed;
  s.reached = std::max(s.reached, computed);
}

void PrefixCache::attach(Sequence& s) {
  if (!settings_.enabled || s.fetching()) return;
  const int32_t before = s.named;
  while (s.named < pages_to_find(s)) {
    const int32_t page = pool_.find(name_of(s, s.named));
    if (page == PagePool::kNone || pool_.is_filling(page)) break;
    pool_.acquire(page);
    if (s.named < static_cast<int32_t>(s.pages.size())) {  // instead of the one it was filling
      pool_.release(std::exchange(s.pages[static_cast<size_t>(s.named)], page));
    } else {
      s.pages.push_back(page);
    }
    ++s.named;
    set_computed(s, std::max(s.computed, s.named * page_size_));
  }
  if (store_ != nullptr && s.named > before) {
    store_->touch(std::span(s.names).subspan(static_cast<size_t>(before) + 1,
                                             static_cast<size_t>(s.named - before)));
  }
}

void PrefixCache::fetch(Sequence& s, double tokens_per_second) {
  if (store_ == nullptr) return;
  int32_t end = s.named;
  while (end < pages_to_find(s) &&
         (pool_.find(name_of(s, end)) != PagePool::kNone || store_->has(name_of(s, end)))) {
    ++end;
  }
  const int32_t count = end - s.named;
  if (count == 0 || !copy_is_cheaper(count * page_bytes_, store_->load_speed(), count * page_size_,
                                     tokens_per_second)) {
    return;
  }
  for (int32_t i = s.named; i < end; ++i) {
    int32_t page = pool_.find(name_of(s, i));
    if (page != PagePool::kNone) {  // there already, or being filled for another sequence
      pool_.acquire(page);
    } else {
      if (pool_.available() == 0) break;
      page = pool_.take();
      begin_load(s, i, page);
    }
    s.pages.push_back(page);
    s.fetch_end = i + 1;
  }
}

void PrefixCache::begin_load(const Sequence& s, int32_t index, int32_t page) {
  pool_.set_name(page, name_of(s, index), parent_of(s, index), page_tokens(s, index));
  pool_.pin(page);
  pool_.set_filling(page, true);
  store_->load(name_of(s, index), page);
  ++in_flight_;
}

void PrefixCache::advance_fetch(Sequence& s) {
  while (s.fetching() && s.named < s.fetch_end) {
    const int32_t page = s.pages[static_cast<size_t>(s.named)];
    if (pool_.name(page) != name_of(s, s.named)) {  // it could not be loaded
      for (; static_cast<int32_t>(s.pages.size()) > s.named; s.pages.pop_back()) {
        pool_.release(s.pages.back());
      }
      break;
    }
    if (pool_.is_filling(page)) return;
    ++s.named;
    set_computed(s, s.named * page_size_);
  }
  s.fetch_end = 0;
}

void PrefixCache::copy_beginning(Sequence& s) {
  if (!settings_.enabled || !std::exchange(s.may_copy, false)) return;
  if (static_cast<int32_t>(s.pages.size()) != s.named || s.computed != s.named * page_size_) return;
  const auto wanted = static_cast<size_t>(std::min(page_size_, s.remaining() - 1));
  const PagePool::Child child = pool_.best_child(
      parent_of(s, s.named), std::span(s.tokens).subspan(static_cast<size_t>(s.computed), wanted));
  if (child.tokens == 0) return;
  pool_.acquire(child.page);  // or it might be the very page that is taken
  if (pool_.available() > 0) {
    extend(s);
    engine_.copy_page(child.page, s.pages.back());
    set_computed(s, s.computed + child.tokens);
  }
  pool_.release(child.page);
}

void PrefixCache::name_full_pages(Sequence& s) {
  if (!settings_.enabled) return;
  // All names, even where a page does not get its name yet: attach() and fetch() go by them.
  for (auto i = static_cast<int32_t>(s.names.size()) - 1; (i + 1) * page_size_ <= s.computed; ++i) {
    s.names.push_back(page_name(parent_of(s, i), page_tokens(s, i)));
  }
  for (; (s.named + 1) * page_size_ <= s.computed; ++s.named) {
    int32_t& page = s.pages[static_cast<size_t>(s.named)];
    const int32_t known =
        pool_.set_name(page, name_of(s, s.named), parent_of(s, s.named), page_tokens(s, s.named));
    if (known == page) {
      queue_save(page);
    } else if (pool_.is_filling(known)) {
      return;  // that may fail yet: this one is named when it has, or replaced
    } else {   // computed twice at the same time: one copy is enough
      pool_.acquire(known);
      pool_.release(std::exchange(page, known));
    }
  }
}

void PrefixCache::release(Sequence& s) {
  // The last first: of idle pages the one that was released first is taken first, and without an
  // earlier page a later one is of no use.
  for (; !s.pages.empty(); s.pages.pop_back()) pool_.release(s.pages.back());
  s.named = 0;
  s.fetch_end = 0;
  s.computed = 0;
  s.planned = 0;
}

void PrefixCache::release_preempted(Sequence& s, double tokens_per_second) {
  const auto only_here = [&](int32_t page) {
    return is_to_save_[static_cast<size_t>(page)] && pool_.holders(page) == 1 &&
           !pool_.is_pinned(page) && pool_.name(page) && !store_->has(pool_.name(page));
  };
  if (store_ != nullptr) {
    const auto count = std::count_if(s.pages.begin(), s.pages.end(), only_here);
    // Out now, and in again later.
    const double bytes = 2.0 * static_cast<double>(count) * page_bytes_;
    if (copy_is_cheaper(bytes, store_->save_speed(), static_cast<double>(count) * page_size_,
                        tokens_per_second)) {
      for (const int32_t page : s.pages) {
        if (only_here(page)) begin_save(page);
      }
    }
  }
  release(s);
}

void PrefixCache::queue_save(int32_t page) {
  if (store_ == nullptr || is_to_save_[static_cast<size_t>(page)]) return;
  is_to_save_[static_cast<size_t>(page)] = true;
  to_save_[(save_first_ + save_count_++) % to_save_.size()] = page;
}

void PrefixCache::begin_save(int32_t page) {
  pool_.pin(page);
  store_->save(pool_.name(page), page);
  ++saves_in_flight_;
  ++in_flight_;
}

void PrefixCache::save_some() {
  while (saves_in_flight_ < settings_.save_window && save_count_ > 0) {
    const int32_t page = to_save_[save_first_];
    save_first_ = (save_first_ + 1) % to_save_.size();
    --save_count_;
    is_to_save_[static_cast<size_t>(page)] = false;
    if (!pool_.name(page) || pool_.is_pinned(page) || store_->has(pool_.name(page))) continue;
    begin_save(page);
  }
}

void PrefixCache::collect() {
  if (store_ == nullptr || in_flight_ == 0) return;
  done_.clear();
  store_->take_done(done_);
  for (const PageStore::Done& done : done_) {
    --in_flight_;
    pool_.unpin(done.page);
    if (done.kind == PageStore::Done::Kind::kSave) {
      --saves_in_flight_;
    } else {
      pool_.set_filling(done.page, false);
      if (!done.ok) pool_.forget_name(done.page);
    }
  }
}

}  // namespace tandem::scheduler
