// Reads the weights in once, so that the first request finds them in memory, and builds the engine.
#include "engine/load.h"

#include <algorithm>

#include "engine/cpu_engine.h"
#include "gguf/file.h"

namespace tandem::engine {
namespace {

constexpr uint64_t kSystemPage = 4096;

// Touches every memory page of the weights. Returns a sum so that the reads are not optimised away.
uint64_t touch_weights(const gguf::File& file, const Options& options) {
  platform::ThreadPool pool({.threads = options.threads, .pin = false});
  uint64_t total = 0;
  for (const gguf::TensorInfo& info : file.tensors()) total += info.bytes;
  uint64_t done = 0;
  std::vector<uint64_t> sums(static_cast<size_t>(pool.size()) * 8);  // a cache line for each thread
  double reported = -1.0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const auto* bytes = static_cast<const unsigned char*>(info.tensor.data);
    const auto pages = static_cast<int64_t>((info.bytes + kSystemPage - 1) / kSystemPage);
    pool.parallel_for(pages, 256, [&](int64_t begin, int64_t end, int worker) {
      uint64_t sum = 0;
      for (int64_t page = begin; page < end; ++page) {
        sum += bytes[static_cast<uint64_t>(page) * kSystemPage];
      }
      sums[static_cast<size_t>(worker) * 8] += sum;
    });
    done += info.bytes;
    const double share =
        static_cast<double>(done) / static_cast<double>(std::max<uint64_t>(total, 1));
    // A line for each percent at most.
    if (options.on_progress && (share - reported >= 0.01 || done == total)) {
      options.on_progress(share, "reading weights");
      reported = share;
    }
  }
  uint64_t sum = 0;
  for (const uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

std::unique_ptr<LocalEngine> load(const gguf::File& file, const Options& options) {
  auto engine =
      std::make_unique<CpuEngine>(file, options);  // checks the file before reading it all
  [[maybe_unused]] static volatile uint64_t sink;
  sink = touch_weights(file, options);
  return engine;
}

}  // namespace tandem::engine
