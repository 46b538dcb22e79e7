// Each thread walks round a region of its own; a pass is a number of pieces that threads take as
// they become free.
//
//   source of a thread   | 1 MiB | 1 MiB | ...   read from front to back, then from the front again
//   target of a thread   | 1 MiB | 1 MiB | ...   the same places, when copying
#include "platform/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

#include <immintrin.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/error.h"
#include "platform/topology.h"

namespace tandem::platform {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kWordsPerPiece = (int64_t{1} << 20) / sizeof(uint64_t);
constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr uint64_t kSourceWord = 0x9E3779B97F4A7C15;  // any; a sum of it shows what was read

// Caches do not replace strictly by age, so a part of a region little larger than they are would
// still be found in them. Source and target together take no more than half of what is free.
int64_t default_bytes() {
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
  return std::min(std::max(int64_t{1} << 30, 8 * cache), read_topology().available_bytes / 4);
}

struct Free {
  void operator()(uint64_t* p) const { std::free(p); }
};
using Memory = std::unique_ptr<uint64_t[], Free>;

// Untouched memory.
Memory huge_pages(int64_t words) {
  const int64_t bytes = words * int64_t{sizeof(uint64_t)};
  const auto size = static_cast<size_t>((bytes + kHugePage - 1) / kHugePage * kHugePage);
  void* p = std::aligned_alloc(kHugePage, size);
  if (p == nullptr) throw Error("out of memory: {} MiB to measure bandwidth with", size >> 20);
  madvise(p, size, MADV_HUGEPAGE);  // a refusal costs speed only
  return Memory(static_cast<uint64_t*>(p));
}

struct alignas(64) Region {
  Memory source;
  Memory target;
  int64_t next = 0;  // word of the next piece
  uint64_t sum = 0;
  bool touched = false;
};

class Regions {
 public:
  Regions(ThreadPool& pool, const BandwidthOptions& options)
      : pool_(pool), regions_(static_cast<size_t>(pool.size())) {
    const int64_t bytes = options.bytes > 0 ? options.bytes : default_bytes();
    const int64_t words = bytes / int64_t{sizeof(uint64_t)} / pool.size();
    words_ = std::max<int64_t>(1, words / kWordsPerPiece) * kWordsPerPiece;
    for (Region& region : regions_) {
      region.source = huge_pages(words_);
      region.target = huge_pages(words_);
    }
  }

  int64_t words() const { return words_ * static_cast<int64_t>(regions_.size()); }

  // The best rate of some passes of body(region, first word of a piece), in bytes per second.
  template <typename Body>
  double best_rate(int passes, const Body& body) {
    double best = 0.0;
    for (int i = 0; i < passes; ++i) best = std::max(best, pass(body));
    return best;
  }

  uint64_t sum() const {
    uint64_t sum = 0;
    for (const Region& region : regions_) sum += region.sum;
    return sum;
  }

 private:
  template <typename Body>
  double pass(const Body& body) {
    for (Region& region : regions_) region.sum = 0;
    const Clock::time_point start = Clock::now();
    pool_.parallel_for(words() / kWordsPerPiece, 1, [&](int64_t begin, int64_t end, int worker) {
      Region& region = regions_[static_cast<size_t>(worker)];
      if (!region.touched) touch(region);
      for (int64_t i = begin; i < end; ++i) {
        body(region, region.next);
        region.next = (region.next + kWordsPerPiece) % words_;
      }
    });
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    return static_cast<double>(words()) * sizeof(uint64_t) / elapsed.count();
  }

  // In a thread's first pass, which is then not the best one.
  void touch(Region& region) const {
    std::fill_n(region.source.get(), words_, kSourceWord);
    std::fill_n(region.target.get(), words_, uint64_t{0});
    region.touched = true;
  }

  ThreadPool& pool_;
  std::vector<Region> regions_;
  int64_t words_;  // of one region
};

}  // namespace

// Eight independent sums keep loads, not additions, the limit. One stream a thread was faster than
// several side by side, and than software prefetch.
uint64_t sum_words(const uint64_t* words, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < count; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  uint64_t total = 0;
  for (const uint64_t s : sums) total += s;
  return total;
}

// Stores past the caches: plain ones first read what they overwrite, which is half as much traffic
// again.
void copy_words(const uint64_t* from, uint64_t* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 4) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                        _mm256_load_si256(reinterpret_cast<const __m256i*>(from + i)));
  }
  _mm_sfence();
}

Bandwidth measure_bandwidth(ThreadPool& pool, const BandwidthOptions& options) {
  Regions regions(pool, options);
  Bandwidth best{};
  best.read = regions.best_rate(options.passes, [](Region& region, int64_t word) {
    region.sum += sum_words(region.source.get() + word, kWordsPerPiece);
  });
  const uint64_t expected = kSourceWord * static_cast<uint64_t>(regions.words());
  TANDEM_CHECK(regions.sum() == expected, "read a sum of {}, not {}", regions.sum(), expected);
  best.copy = regions.best_rate(options.passes, [](Region& region, int64_t word) {
    copy_words(region.source.get() + word, region.target.get() + word, kWordsPerPiece);
  });
  return best;
}

}  // namespace tandem::platform
