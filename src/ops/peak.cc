// Passes over the pool until clock frequencies have settled.
#include "ops/peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace tandem::ops {
namespace {

using Clock = std::chrono::steady_clock;

// Some 50 us of VNNI, so that taking a piece costs nothing beside it.
constexpr int64_t kRoundsPerPiece = 16384;
// Threads that start late or run slower take fewer pieces.
constexpr int64_t kPiecesPerThread = 32;
constexpr std::chrono::milliseconds kTime{400};

}  // namespace

double measure_peak_int8(platform::ThreadPool& pool, const cpu::Table& table) {
  struct alignas(64) Count {  // a cache line for each thread
    int64_t products = 0;
  };
  std::vector<Count> counts(static_cast<size_t>(pool.size()));
  double best = 0.0;
  const Clock::time_point deadline = Clock::now() + kTime;
  do {
    for (Count& count : counts) count.products = 0;
    const Clock::time_point start = Clock::now();
    pool.parallel_for(pool.size() * kPiecesPerThread, 1,
                      [&](int64_t begin, int64_t end, int worker) {
                        counts[static_cast<size_t>(worker)].products +=
                            table.peak_products((end - begin) * kRoundsPerPiece);
                      });
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    int64_t products = 0;
    for (const Count& count : counts) products += count.products;
    best = std::max(best, 2.0 * static_cast<double>(products) / elapsed.count());
  } while (Clock::now() < deadline);
  return best;
}

}  // namespace tandem::ops
