// Random weights in the layout that kernels read, on the device, with their true values beside.
#pragma once

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/panels.h"
#include "tests/kernels/cuda/device.h"
#include "tests/quant/random_stack.h"

namespace tandem::cuda::testing {

// [matrices, n, k]
class DeviceStack {
 public:
  DeviceStack(DType type, int64_t matrices, int64_t n, int64_t k, uint32_t seed)
      : type_(type),
        n_(n),
        k_(k),
        values_(static_cast<size_t>(matrices * n * k)),
        stack_(type, matrices, n, k, seed),
        memory_(bytes_of(stack_.in_parts(1))) {
    for (int64_t m = 0; m < matrices; ++m) {
      for (int64_t i = 0; i < n; ++i) {
        quant::dequantize(type, stack_.row(m, i), values_.data() + (m * n + i) * k, k);
      }
    }
  }

  DType type() const { return type_; }
  const void* data() const { return memory_.data(); }
  const float* row(int64_t matrix, int64_t i) const {
    return values_.data() + (matrix * n_ + i) * k_;
  }

 private:
  static std::vector<std::byte> bytes_of(const Tensor& tensor) {
    const auto* from = static_cast<const std::byte*>(tensor.data);
    return {from, from + quant::stack_bytes(tensor)};
  }

  DType type_;
  int64_t n_, k_;
  std::vector<float> values_;
  tandem::testing::RandomStack stack_;
  DeviceVector<std::byte> memory_;
};

// Rows whose width is a multiple of 32, one after the other.
inline std::vector<__nv_bfloat16> for_products(const std::vector<float>& x) {
  TANDEM_CHECK(x.size() % 32 == 0, "{} values are no whole blocks of 32", x.size());
  std::vector<__nv_bfloat16> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    out[static_cast<size_t>(product_place(static_cast<int64_t>(i)))] = __float2bfloat16(x[i]);
  }
  return out;
}

// A dot product in float64, and the sum of its terms' magnitudes.
struct Dot {
  double value = 0.0, size = 0.0;
};
inline Dot dot(const float* w, const float* x, int64_t k) {
  Dot dot;
  for (int64_t i = 0; i < k; ++i) {
    const double term = static_cast<double>(w[i]) * x[i];
    dot.value += term;
    dot.size += std::fabs(term);
  }
  return dot;
}

// ||difference|| / ||expected|| of all values seen.
class RelativeError {
 public:
  void add(double value, double expected) {
    difference_ += (value - expected) * (value - expected);
    size_ += expected * expected;
  }
  double value() const { return std::sqrt(difference_ / size_); }

 private:
  double difference_ = 0.0, size_ = 0.0;
};

// bf16 has 8 significant bits: rounding one operand of a product moves it by 2^-9 of itself at
// most, rounding both by twice that. 1.1 leaves room for float32 sums (2^-24 for each of some
// hundred terms, of which a few exceed the result where minima cancel).
inline constexpr double kFewError = 1.1 * 0x1p-9, kManyError = 1.1 * 0x1p-8;
// Random roundings mostly cancel: 2^-9 / sqrt(3) for each operand, which is 1.1e-3 and 1.6e-3.
// A few tokens and rows of random blocks scatter around that; none may be worse than this.
inline constexpr double kFewRelative = 2.4e-3, kManyRelative = 3.2e-3;

inline constexpr DType kPanelTypes[] = {
    DType::kQ4_0,   DType::kQ4_1,  DType::kQ5_0,   DType::kQ5_1, DType::kQ8_0,
    DType::kIQ4_NL, DType::kMXFP4, DType::kQ2_K,   DType::kQ3_K, DType::kQ4_K,
    DType::kQ5_K,   DType::kQ6_K,  DType::kIQ4_XS,
};
inline std::string name_of(DType type) { return std::string(quant::traits(type).name); }

}  // namespace tandem::cuda::testing
