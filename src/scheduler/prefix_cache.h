// The pages of sequences: taken as they grow, shared where their names are equal, kept when
// released, copied to lower tiers and fetched from there. No policy: who gets pages is core's.
#pragma once

#include <vector>

#include "scheduler/page_pool.h"
#include "scheduler/page_store.h"
#include "scheduler/sequence.h"

namespace tandem::scheduler {

class PrefixCache {
 public:
  struct Settings {
    bool enabled = true;
    Hash128 model_identity;
    int32_t save_window = 1;  // copies to lower tiers at a time
  };

  // store: the lower tiers; null: there are none.
  PrefixCache(engine::Engine& engine, PageStore* store, const Settings& settings);

  int32_t total() const { return pool_.total(); }
  int32_t available() const { return pool_.available(); }
  int32_t cached() const { return pool_.idle(); }
  int32_t pages_for(int32_t tokens) const { return (tokens + page_size_ - 1) / page_size_; }

  // Reserves what the sequence's bookkeeping takes and names the pages of its tokens. Once.
  void prepare(Sequence& s) const;
  // Whether all present tokens find a page, with `promised` pages left for others.
  bool fits(const Sequence& s, int32_t promised) const;
  // Gives the sequence all pages of its tokens that others have, from where it is on. At least its
  // last token remains to be computed.
  void attach(Sequence& s);
  // Begins to fetch the pages that follow from a lower tier, where that is cheaper than to compute
  // them. The sequence computes nothing while it fetches.
  void fetch(Sequence& s, double tokens_per_second);
  // Takes in what has arrived.
  void advance_fetch(Sequence& s);
  // Where the next page begins as another one does, copies that. Once for each admission.
  void copy_beginning(Sequence& s);

  // One more page; there must be one available.
  void extend(Sequence& s) { s.pages.push_back(pool_.take()); }
  // Names the pages that have become full, so that others find them.
  void name_full_pages(Sequence& s);
  void release(Sequence& s);
  // As release(), but first copies what no lower tier has, where that is cheaper than to compute it
  // again. Those pages are not available before they are copied.
  void release_preempted(Sequence& s, double tokens_per_second);

  // Takes in copies that have ended.
  void collect();
  // Begins to copy full pages to the lower tiers.
  void save_some();
  bool copies_in_flight() const { return in_flight_ > 0; }
  // Pages become available when copies end, without anybody giving up one.
  bool pages_will_come() const { return pool_.pinned_idle() > 0; }

  uint64_t hit_tokens() const { return hit_tokens_; }
  TierStats tier_stats() const { return store_ == nullptr ? TierStats{} : store_->stats(); }

 private:
  std::span<const TokenId> page_tokens(const Sequence& s, int32_t index) const;
  static const PageName& parent_of(const Sequence& s, int32_t index);
  static const PageName& name_of(const Sequence& s, int32_t index) {
    return parent_of(s, index + 1);
  }
  // Pages that may come from elsewhere: the last token is always computed.
  int32_t pages_to_find(const Sequence& s) const { return (s.size() - 1) / page_size_; }
  void set_computed(Sequence& s, int32_t computed);
  void begin_load(const Sequence& s, int32_t index, int32_t page);
  void begin_save(int32_t page);
  void queue_save(int32_t page);

  engine::Engine& engine_;
  PageStore* const store_;
  const Settings settings_;
  const int32_t page_size_;
  const double page_bytes_;
  PagePool pool_;

  // Pages to copy to the lower tiers, a ring in the order in which they became full. One that
  // loses its name before its turn is passed over.
  std::vector<int32_t> to_save_;
  std::vector<bool> is_to_save_;  // [P]
  size_t save_first_ = 0, save_count_ = 0;
  int32_t saves_in_flight_ = 0;
  int32_t in_flight_ = 0;  // saves and loads
  uint64_t hit_tokens_ = 0;
  std::vector<PageStore::Done> done_;
};

}  // namespace tandem::scheduler
