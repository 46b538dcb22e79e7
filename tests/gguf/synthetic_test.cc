// Synthetic models: valid weights that take no memory. That their lay-out is the one of
// tools/synth_gguf.py is checked in tests/models/test_synthetic.py.
#include "gguf/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "quant/reference.h"
#include "quant/types.h"

namespace tandem::gguf {
namespace {

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * 4096;
}

TEST(Synthetic, NamesWhatIsKnown) {
  try {
    open_synthetic("ds-v4", 0);
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* name :
         {"ds-v2-lite", "ds-v3", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-14b"}) {
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
  }
  EXPECT_THROW(open_synthetic("ds-v2-lite", 28), Error);
}

TEST(Synthetic, LargestModelTakesNoMemory) {
  const int64_t before = resident_bytes();
  const std::unique_ptr<File> file = open_synthetic("ds-v3", 0);
  EXPECT_GT(file->total_bytes(), uint64_t{380'000'000'000});
  EXPECT_LT(resident_bytes() - before, int64_t{150} << 20);
  std::ifstream maps("/proc/self/maps");
  const auto lines = std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
  EXPECT_LT(lines, 32000);
}

TEST(Synthetic, WeightsAreFiniteAndReadAsTheyAreSeen) {
  const std::unique_ptr<File> file = open_synthetic("ds-v3", 4);
  for (const TensorInfo& info : file->tensors()) {
    const int64_t k = info.tensor.cols();
    const int64_t row_bytes = quant::row_bytes(info.tensor.dtype, k);
    ASSERT_EQ(info.bytes, static_cast<uint64_t>(info.tensor.rows() * row_bytes));
    std::vector<std::byte> row(static_cast<size_t>(row_bytes));
    std::vector<float> values(static_cast<size_t>(k));
    const int64_t last = info.tensor.rows() - 1;
    for (const int64_t r : {int64_t{0}, last / 2, last}) {
      file->read(info, static_cast<uint64_t>(r * row_bytes), row);
      const auto* seen = static_cast<const std::byte*>(info.tensor.data) + r * row_bytes;
      ASSERT_EQ(std::memcmp(row.data(), seen, row.size()), 0) << info.name;
      quant::dequantize(info.tensor.dtype, row.data(), values.data(), k);
      double squares = 0.0;
      for (const float v : values) squares += double{v} * v;
      const double deviation = std::sqrt(squares / static_cast<double>(k));
      if (info.name.find("norm") != std::string_view::npos) {
        EXPECT_EQ(deviation, 1.0) << info.name;
      } else {
        EXPECT_NEAR(deviation, 1.0 / 64, 1.0 / 64 / 4) << info.name << " row " << r;
      }
    }
  }
  EXPECT_EQ(file->find_tensor("blk.3.ffn_down_exps.weight")->tensor.shape, shape(256, 7168, 2048));
  EXPECT_EQ(file->find_tensor("none"), nullptr);
  EXPECT_EQ(file->get_u64("deepseek2.block_count"), 4U);
  EXPECT_EQ(file->get_string("general.architecture"), "deepseek2");
  EXPECT_EQ(file->find("none"), nullptr);
}

}  // namespace
}  // namespace tandem::gguf
