// The tiers below the engine's pages, as the scheduler's thread sees them: nothing here waits, what
// was begun is reported later.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/page_name.h"

namespace tandem::scheduler {

struct Tier {
  int64_t pages_total = 0;
  int64_t pages_used = 0;
};

struct TierStats {
  Tier host = {}, disk = {};  // all zero: there is no such tier
  uint64_t pages_saved = 0;   // copied out of the engine
  uint64_t pages_loaded = 0;  // copied back
  uint64_t failures = 0;      // loads and writes that failed, those of damaged files too
};

class PageStore {
 public:
  struct Done {
    enum class Kind { kSave, kLoad };
    Kind kind;
    int32_t page;
    bool ok;
  };

  virtual ~PageStore() = default;

  // Whether a page of that name can be loaded, as far as is known now.
  virtual bool has(const PageName& name) const = 0;
  // These are in use: they are to be kept longer than others.
  virtual void touch(std::span<const PageName> names) = 0;
  // Copies a page of the engine, which must not change until this is done.
  virtual void save(const PageName& name, int32_t page) = 0;
  // Fills a page of the engine, which nobody may use until this is done.
  virtual void load(const PageName& name, int32_t page) = 0;
  // Appends what was done since the last call. Every save and load is reported once.
  virtual void take_done(std::vector<Done>& out) = 0;

  // Bytes a second of late; 0: not known yet.
  virtual double save_speed() const = 0;
  virtual double load_speed() const = 0;
  virtual TierStats stats() const = 0;
};

// Pages by name on something that outlives the process. Calls wait, and come from one thread;
// has(), touch() and the counts from any.
class PageDisk {
 public:
  virtual ~PageDisk() = default;
  virtual bool has(const PageName& name) const = 0;
  virtual void touch(std::span<const PageName> names) = 0;
  // False: it is not there, or was damaged and is gone now; what `out` holds means nothing then.
  virtual bool read(const PageName& name, std::span<std::byte> out) = 0;
  virtual bool write(const PageName& name, std::span<const std::byte> in) = 0;
  virtual Tier pages() const = 0;
};

}  // namespace tandem::scheduler
