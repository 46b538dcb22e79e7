// Builds the engine, then reads the weights, saying how far it is and how fast it was.
#include "engine/load.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "engine/cpu_engine.h"
#include "gguf/file.h"

namespace tandem::engine {
namespace {

void load_weights(CpuEngine& engine, const Options& options) {
  const auto total = static_cast<double>(std::max<int64_t>(engine.weight_file_bytes(), 1));
  const auto start = std::chrono::steady_clock::now();
  double reported = -1.0;
  engine.load_weights([&](int64_t bytes) {
    const double share = static_cast<double>(bytes) / total;
    // A call for each percent at most.
    if (!options.on_progress || (share - reported < 0.01 && share < 1.0)) return;
    options.on_progress(share, "reading weights");
    reported = share;
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  log::info("read {:.2f} GB of weights in {:.2f} s, {:.1f} GB/s", total / 1e9, elapsed.count(),
            total / 1e9 / elapsed.count());
}

}  // namespace

std::unique_ptr<LocalEngine> load(const gguf::File& file, const Options& options) {
  auto engine = std::make_unique<CpuEngine>(file, options);
  load_weights(*engine, options);
  return engine;
}

}  // namespace tandem::engine
