// Packing of whole matrices: every row arrives, by any number of threads; a failing read ends it.
#include "ops/pack.h"

#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "ops/weight_memory.h"
#include "quant/panels.h"
#include "quant/parts.h"
#include "tests/quant/random_weights.h"

namespace tandem::ops {
namespace {

struct Source {
  DType dtype;
  Shape shape;
  std::vector<std::byte> rows;

  Source(DType type, const Shape& s)
      : dtype(type),
        shape(s),
        rows(testing::random_weights(type, s.elements() / s.inner(0), s.inner(0),
                                     quant::row_bytes(type, s.inner(0)), 9)) {}

  Packing into(WeightMemory& memory) const {
    return {.to = memory.place(dtype, shape),
            .read = [this](int64_t offset, std::span<std::byte> out) {
              std::memcpy(out.data(), rows.data() + offset, out.size());
            }};
  }
};

// Panels and rows, stacks and single matrices; rows that are no whole panels; more than a piece.
std::vector<Source> sources() {
  return {{DType::kQ4_K, shape(3, 40, 512)}, {DType::kF32, shape(7, 33)},
          {DType::kQ8_0, shape(5, 1, 64)},   {DType::kQ6_K, shape(2100, 768)},
          {DType::kIQ3_S, shape(2, 9, 256)}, {DType::kBF16, shape(1200, 1000)},
          {DType::kQ5_0, shape(17, 32)}};
}

WeightMemory memory_for(const std::vector<Source>& list) {
  int64_t bytes = 0;
  for (const Source& s : list) bytes += WeightMemory::bytes_of(s.dtype, s.shape, 1);
  return WeightMemory(bytes, 1);
}

void expect_row(const Tensor& packed, int64_t matrix, int64_t row, const std::byte* expected) {
  const int64_t k = packed.cols();
  const auto bytes = static_cast<size_t>(quant::row_bytes(packed.dtype, k));
  std::vector<std::byte> actual(bytes);
  if (packed.layout == Layout::kRows) {
    std::memcpy(actual.data(), quant::rows_at(packed, matrix, row), bytes);
  } else {
    quant::unpack_row(packed.dtype, quant::rows_at(packed, matrix, row / 16 * 16),
                      static_cast<int>(row % 16), k, actual.data());
  }
  ASSERT_EQ(std::memcmp(actual.data(), expected, bytes), 0)
      << "matrix " << matrix << " row " << row;
}

TEST(Pack, EveryRowArrives) {
  const std::vector<Source> list = sources();
  for (const int threads : {1, 3}) {
    platform::ThreadPool pool({.threads = threads, .pin = false});
    for (const cpu::Table& table : cpu::tables()) {
      if (!table.supported) continue;
      Workspace workspace(64);
      Context ctx{pool, table, workspace};
      WeightMemory memory = memory_for(list);
      std::vector<Packing> packings;
      for (const Source& source : list) packings.push_back(source.into(memory));

      int64_t total = 0, reported = 0;
      for (const Source& source : list) total += static_cast<int64_t>(source.rows.size());
      pack(ctx, packings, [&](int64_t bytes) {
        EXPECT_GE(bytes, reported);
        reported = bytes;
      });
      EXPECT_EQ(reported, total);
      for (size_t i = 0; i < list.size(); ++i) {
        SCOPED_TRACE(std::string(table.name) + ", matrix " + std::to_string(i));
        const Tensor& to = packings[i].to;
        EXPECT_EQ(reinterpret_cast<uintptr_t>(to.data) % 64, 0U);
        const int64_t n = to.shape.inner(1);
        const int64_t row_bytes = quant::row_bytes(to.dtype, to.cols());
        for (int64_t row = 0; row < to.rows(); ++row) {
          expect_row(to, row / n, row % n, list[i].rows.data() + row * row_bytes);
        }
      }
    }
  }
}

TEST(Pack, ThrowsWhatTheReadThrows) {
  const std::vector<Source> list = sources();
  platform::ThreadPool pool({.threads = 2, .pin = false});
  Workspace workspace(64);
  Context ctx{pool, cpu::select(), workspace};
  WeightMemory memory = memory_for(list);
  std::vector<Packing> packings = {list[0].into(memory), list[3].into(memory)};
  packings[1].read = [](int64_t, std::span<std::byte>) { throw Error("the disk is gone"); };
  EXPECT_THROW(pack(ctx, packings, {}), Error);
  packings[1] = list[5].into(memory);
  EXPECT_THROW(pack(ctx, packings, [](int64_t) { throw Error("stopped"); }), Error);
  EXPECT_NO_THROW(pack(ctx, packings, {}));
}

TEST(WeightMemory, SplitsLargeStacksOverNodes) {
  const Shape large = shape(8, 4096, 2048), small = shape(8, 64, 2048);  // 38 MB, 0.6 MB of Q4_K
  WeightMemory memory(WeightMemory::bytes_of(DType::kQ4_K, small, 2) +
                          WeightMemory::bytes_of(DType::kQ4_K, large, 2),
                      2);
  EXPECT_EQ(memory.place(DType::kQ4_K, small).parts, 1);
  const Tensor split = memory.place(DType::kQ4_K, large);
  EXPECT_EQ(split.parts, 2);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(split.data) % quant::kPartAlignment, 0U);
  EXPECT_EQ(WeightMemory(quant::stack_bytes(split), 1).place(DType::kQ4_K, large).parts, 1);
}

TEST(WeightMemory, RefusesMoreThanWasReserved) {
  WeightMemory memory(1 << 20, 1);
  memory.place(DType::kF32, shape(2, 1 << 17));
  EXPECT_DEATH(memory.place(DType::kF32, shape(2, 1 << 19)), "reserved");
}

}  // namespace
}  // namespace tandem::ops
