// Host memory and disk below the engine's pages, with a thread of their own that copies:
//
//   save:  engine --> host memory --> disk       load:  engine <-- host memory <-- disk
//
// A page that is saved goes to both, so giving one up in host memory is free. Loads go before
// saves, each in the order in which they were asked for.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/engine.h"
#include "scheduler/host_pages.h"
#include "scheduler/page_store.h"
#include "scheduler/speeds.h"

namespace tandem::scheduler {

class TieredStore : public PageStore {
 public:
  // disk: null: none. wake: called on the store's thread when there is something to take.
  TieredStore(engine::Engine& engine, int64_t host_bytes, std::unique_ptr<PageDisk> disk,
              std::function<void()> wake);
  // Saves that were begun are finished.
  ~TieredStore() override;

  bool has(const PageName& name) const override;
  void touch(std::span<const PageName> names) override;
  void save(const PageName& name, int32_t page) override;
  void load(const PageName& name, int32_t page) override;
  void take_done(std::vector<Done>& out) override;
  double save_speed() const override;
  double load_speed() const override;
  TierStats stats() const override;

 private:
  struct Job {
    PageName name;
    int32_t page;
  };

  void run();
  void run_save(const Job& job);
  // Whether the page was found and its copy is in the engine.
  bool run_load(const Job& job);
  void report(const Done& done);

  engine::Engine& engine_;
  const size_t page_bytes_;
  const std::unique_ptr<PageDisk> disk_;
  const std::function<void()> wake_;
  HostPages::Buffer spare_;  // of the thread only

  mutable std::mutex mutex_;  // guards what follows; only the thread changes host_'s set of pages
  std::condition_variable work_;
  HostPages host_;
  std::deque<Job> saves_, loads_;
  std::vector<Done> done_;
  Speed save_speed_, load_speed_;  // bytes a second
  uint64_t saved_ = 0, loaded_ = 0, failures_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem::scheduler
