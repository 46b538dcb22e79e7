// What cannot fit is refused before a weight is read.
#include "engine/load.h"

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "gguf/synthetic.h"
#include "platform/topology.h"

namespace tandem::engine {
namespace {

TEST(Load, RefusesAModelThatDoesNotFitWithTheArithmetic) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic("ds-v3", 0);
  if (platform::read_topology().available_bytes > static_cast<int64_t>(file->total_bytes())) {
    GTEST_SKIP() << "it fits into this machine";
  }
  Options options;
  options.threads = 1;
  options.on_progress = [](double, const std::string&) { FAIL() << "weights are being read"; };
  try {
    load(*file, options);
    FAIL() << "it was not refused";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* part : {"weights", "KV cache", "are available", "smaller model"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace tandem::engine
