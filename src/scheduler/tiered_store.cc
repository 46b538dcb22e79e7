// One thread, two queues.
#include "scheduler/tiered_store.h"

#include <chrono>
#include <new>

namespace tandem::scheduler {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

TieredStore::TieredStore(engine::Engine& engine, int64_t host_bytes, std::unique_ptr<PageDisk> disk,
                         std::function<void()> wake)
    : engine_(engine),
      page_bytes_(static_cast<size_t>(engine.info().page_bytes)),
      disk_(std::move(disk)),
      wake_(std::move(wake)),
      host_(host_bytes / engine.info().page_bytes) {
  thread_ = std::thread([this] { run(); });
}

TieredStore::~TieredStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

bool TieredStore::has(const PageName& name) const {
  {
    const std::lock_guard lock(mutex_);
    if (host_.has(name)) return true;
  }
  return disk_ != nullptr && disk_->has(name);
}

void TieredStore::touch(std::span<const PageName> names) {
  if (disk_ != nullptr) disk_->touch(names);
  const std::lock_guard lock(mutex_);
  for (const PageName& name : names) host_.touch(name);
}

void TieredStore::save(const PageName& name, int32_t page) {
  {
    const std::lock_guard lock(mutex_);
    saves_.push_back({name, page});
  }
  work_.notify_one();
}

void TieredStore::load(const PageName& name, int32_t page) {
  {
    const std::lock_guard lock(mutex_);
    loads_.push_back({name, page});
  }
  work_.notify_one();
}

void TieredStore::take_done(std::vector<Done>& out) {
  const std::lock_guard lock(mutex_);
  out.insert(out.end(), done_.begin(), done_.end());
  done_.clear();
}

void TieredStore::report(const Done& done) {
  bool first;
  {
    const std::lock_guard lock(mutex_);
    first = done_.empty();
    done_.push_back(done);
    if (done.kind == Done::Kind::kSave) {
      saved_ += done.ok;
    } else {
      loaded_ += done.ok;
    }
    failures_ += !done.ok;
  }
  if (first) wake_();
}

void TieredStore::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stopping_ || !saves_.empty() || !loads_.empty(); });
    if (stopping_ && saves_.empty()) return;
    const bool is_load = !loads_.empty() && !stopping_;
    std::deque<Job>& queue = is_load ? loads_ : saves_;
    const Job job = queue.front();
    queue.pop_front();
    lock.unlock();
    if (is_load) {
      report({Done::Kind::kLoad, job.page, run_load(job)});
    } else {
      run_save(job);
    }
    lock.lock();
  }
}

void TieredStore::run_save(const Job& job) {
  const Clock::time_point start = Clock::now();
  if (spare_ == nullptr) spare_.reset(new (std::nothrow) std::byte[page_bytes_]);
  if (spare_ == nullptr) {
    report({Done::Kind::kSave, job.page, false});
    return;
  }
  engine_.read_page(job.page, {spare_.get(), page_bytes_});
  // In host memory it stays where it is, for only this thread gives pages up there.
  const std::span<const std::byte> bytes(spare_.get(), page_bytes_);
  HostPages::Buffer given_up;
  {
    const std::lock_guard lock(mutex_);
    given_up = host_.put(job.name, std::move(spare_));
  }
  report({Done::Kind::kSave, job.page, true});  // the engine's page is free again
  const bool written = disk_ == nullptr || disk_->write(job.name, bytes);
  spare_ = std::move(given_up);
  const std::lock_guard lock(mutex_);
  failures_ += !written;
  save_speed_.add(static_cast<double>(page_bytes_), seconds_since(start));
}

bool TieredStore::run_load(const Job& job) {
  const Clock::time_point start = Clock::now();
  const std::byte* in_host;
  {
    const std::lock_guard lock(mutex_);
    in_host = host_.find(job.name);
  }
  if (in_host != nullptr) {
    engine_.write_page(job.page, {in_host, page_bytes_});
  } else {
    if (spare_ == nullptr) spare_.reset(new (std::nothrow) std::byte[page_bytes_]);
    if (spare_ == nullptr || disk_ == nullptr) return false;
    if (!disk_->read(job.name, {spare_.get(), page_bytes_})) return false;
    engine_.write_page(job.page, {spare_.get(), page_bytes_});
  }
  const std::lock_guard lock(mutex_);
  if (in_host == nullptr) spare_ = host_.put(job.name, std::move(spare_));
  load_speed_.add(static_cast<double>(page_bytes_), seconds_since(start));
  return true;
}

double TieredStore::save_speed() const {
  const std::lock_guard lock(mutex_);
  return save_speed_.per_second();
}

double TieredStore::load_speed() const {
  const std::lock_guard lock(mutex_);
  return load_speed_.per_second();
}

TierStats TieredStore::stats() const {
  TierStats stats;
  {
    const std::lock_guard lock(mutex_);
    stats = {.host = {.pages_total = host_.capacity(), .pages_used = host_.size()},
             .pages_saved = saved_,
             .pages_loaded = loaded_,
             .failures = failures_};
  }
  if (disk_ != nullptr) stats.disk = disk_->pages();
  return stats;
}

}  // namespace tandem::scheduler
