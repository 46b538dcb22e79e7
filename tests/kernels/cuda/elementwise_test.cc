// Elementwise operators on the device equal the CPU's bit for bit.
#include "kernels/cuda/elementwise.h"

#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using testing::DeviceVector;
using testing::random_floats;

class Elementwise : public testing::DeviceTest {};

TEST_F(Elementwise, AddsRowsOfOddWidth) {
  const int tokens = 5;
  const int64_t n = 1037, stride = 1040;
  const auto a = random_floats(tokens * stride, 1), b = random_floats(tokens * stride, 2);
  DeviceVector<float> device_a(a), device_b(b);
  add({.a = device_a.data(),
       .a_stride = stride,
       .b = device_b.data(),
       .b_stride = stride,
       .out = device_a.data(),
       .out_stride = stride,
       .n = n,
       .tokens = tokens},
      stream());
  const auto sum = device_a.host();
  for (size_t i = 0; i < sum.size(); ++i) {
    const bool inside = static_cast<int64_t>(i) % stride < n;
    ASSERT_EQ(sum[i], inside ? a[i] + b[i] : a[i]) << i;
  }
}

}  // namespace
}  // namespace tandem::cuda
