// Every instruction set packs panels to the bytes of quant::pack_panel.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "quant/panels.h"
#include "tests/quant/random_weights.h"

namespace tandem::cpu {
namespace {

// Memory for a panel at a multiple of 64 bytes, with a line behind it that must stay as it is.
struct PanelMemory {
  explicit PanelMemory(int64_t panel_bytes)
      : bytes(static_cast<size_t>(panel_bytes)), storage(bytes + 128, std::byte{0xa5}) {
    void* p = storage.data();
    size_t space = storage.size();
    panel = static_cast<std::byte*>(std::align(64, bytes + 64, p, space));
  }
  bool line_behind_is_untouched() const {
    return std::all_of(panel + bytes, panel + bytes + 64,
                       [](std::byte b) { return b == std::byte{0xa5}; });
  }

  size_t bytes;
  std::vector<std::byte> storage;
  std::byte* panel;
};

class Pack : public ::testing::TestWithParam<DType> {};

TEST_P(Pack, EqualsTheScalarDefinition) {
  const DType type = GetParam();
  if (!quant::has_panels(type)) {
    for (const Table& table : tables()) EXPECT_EQ(table.pack[static_cast<size_t>(type)], nullptr);
    return;
  }
  const int block = quant::traits(type).block_elements;
  for (const int64_t blocks : {1, 2, 3, 7, 8}) {
    const int64_t k = blocks * block;
    for (const int64_t gap : {0, 1, 6, 64}) {
      const int64_t stride = quant::row_bytes(type, k) + gap;
      // The rows end where the allocation ends, so that reads beyond them are seen by a sanitizer.
      constexpr int64_t kOffset = 3;
      std::vector<std::byte> storage(
          static_cast<size_t>(kOffset + 15 * stride + quant::row_bytes(type, k)));
      const std::vector<std::byte> weights = testing::random_weights(type, 16, k, stride, 5);
      std::copy_n(weights.data(), storage.size() - kOffset, storage.data() + kOffset);
      for (int count = 1; count <= quant::kPanelRows; ++count) {
        PanelMemory truth(quant::panel_bytes(type, k));
        quant::pack_panel(type, storage.data() + kOffset, stride, count, k, truth.panel);
        for (const Table& table : tables()) {
          if (!table.supported) continue;
          PanelMemory packed(quant::panel_bytes(type, k));
          table.pack[static_cast<size_t>(type)]({.rows = storage.data() + kOffset,
                                                 .row_stride = stride,
                                                 .count = count,
                                                 .k = k,
                                                 .panel = packed.panel});
          ASSERT_EQ(std::memcmp(packed.panel, truth.panel, packed.bytes), 0)
              << table.name << " k=" << k << " stride=" << stride << " rows=" << count;
          ASSERT_TRUE(packed.line_behind_is_untouched()) << table.name;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Pack, ::testing::ValuesIn(testing::kWeightTypes),
                         [](const auto& type) {
                           return std::string(quant::traits(type.param).name);
                         });

}  // namespace
}  // namespace tandem::cpu
