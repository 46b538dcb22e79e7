// Tensor views: rows, columns, and refusing to read one type as another.
#include "base/tensor.h"

#include <array>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(TensorTest, RowsAreAllDimensionsButTheContiguousOne) {
  std::array<float, 24> values = {};
  const Tensor tensor = {.data = values.data(), .shape = shape(2, 3, 4)};
  EXPECT_EQ(tensor.rows(), 6);
  EXPECT_EQ(tensor.cols(), 4);
}

TEST(TensorTest, IsFalseWithoutMemory) {
  float value = 0.0F;
  const Tensor tensor = {.data = &value, .shape = shape(1)};
  EXPECT_TRUE(tensor);
  EXPECT_FALSE(Tensor{});
}

TEST(TensorTest, ShowsItsMemoryAsFloats) {
  std::array<float, 2> values = {1.5F, 2.5F};
  const Tensor tensor = {.data = values.data(), .shape = shape(2)};
  EXPECT_EQ(tensor.f32()[1], 2.5F);
}

TEST(TensorDeathTest, RefusesToShowOtherTypesAsFloats) {
  std::array<uint16_t, 2> values = {};
  const Tensor tensor = {.data = values.data(), .dtype = DType::kF16, .shape = shape(2)};
  EXPECT_DEATH(tensor.f32(), "tensor has dtype 1");
}

}  // namespace
}  // namespace tandem
