// A parallel sum over a large buffer.
#include "platform/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

namespace tandem::platform {
namespace {

constexpr int64_t kBytes = int64_t{1} << 30;  // several times any last-level cache
constexpr int64_t kPieceBytes = int64_t{1} << 20;
constexpr int kPasses = 7;

// Eight independent sums keep loads, not additions, the limit.
uint64_t sum_piece(const uint64_t* words, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < count; i += 8) {
    for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  uint64_t total = 0;
  for (const uint64_t s : sums) total += s;
  return total;
}

}  // namespace

double measure_read_bandwidth(ThreadPool& pool) {
  const std::unique_ptr<uint64_t[]> buffer(new uint64_t[kBytes / 8]);
  const int64_t words_per_piece = kPieceBytes / 8;
  const auto for_pieces = [&](const auto& body) {
    pool.parallel_for(kBytes / kPieceBytes, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) body(buffer.get() + i * words_per_piece, worker);
    });
  };
  for_pieces([&](uint64_t* piece, int) { std::memset(piece, 1, kPieceBytes); });
  std::vector<uint64_t> sums(static_cast<size_t>(pool.size()) * 8);  // a cache line for each worker
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    for_pieces([&](const uint64_t* piece, int worker) {
      sums[static_cast<size_t>(worker) * 8] += sum_piece(piece, words_per_piece);
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kBytes) / elapsed.count());
  }
  [[maybe_unused]] static volatile uint64_t sink;  // keeps the sums from being optimised away
  for (const uint64_t s : sums) sink = s;
  return best;
}

}  // namespace tandem::platform
