// Products of float, half and bfloat16 rows with float activations over an instruction set's Vec16:
// lane l takes k = l, l + 16, ... by fma, then the fixed tree.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/lanes/elementwise.inl.h"

namespace tandem::cpu::lanes {

template <DType kType>
inline constexpr int kWeightBytes = kType == DType::kF32 ? 4 : 2;

// `count` weights from column i. The missing lanes are -0, whose product with the activations'
// missing +0 changes no sum, not even one of -0.
template <typename V, DType kType>
inline V load_weights(const std::byte* row, int64_t i, int count) {
  if (count == 16) return load_kv<V>(row, i, kType);
  std::byte padded[64] = {};
  for (int l = 1; l <= 16; ++l) padded[l * kWeightBytes<kType> - 1] = std::byte{0x80};
  for (int b = 0; b < count * kWeightBytes<kType>; ++b) {
    padded[b] = row[i * kWeightBytes<kType> + b];
  }
  return load_kv<V>(padded, 0, kType);
}

// One weight row with kTokens activation rows.
template <typename V, DType kType, int kTokens>
inline void dot_rows(const std::byte* w, const float* const* x, int64_t k, float* y,
                     int64_t y_stride) {
  V acc[kTokens];
  for (int t = 0; t < kTokens; ++t) acc[t] = V::zero();
  for_each_group(k, [&](int64_t i, int count) {
    const V weights = load_weights<V, kType>(w, i, count);
    for (int t = 0; t < kTokens; ++t) {
      acc[t] = V::fma(weights, load_group<V>(x[t] + i, count), acc[t]);
    }
  });
  for (int t = 0; t < kTokens; ++t) y[t * y_stride] = acc[t].sum();
}

template <typename V, DType kType>
void linear_float(const LinearParams& p) {
  for (int first = 0; first < p.t; first += 4) {
    const int tokens = p.t - first < 4 ? p.t - first : 4;
    const float* x[4];
    for (int t = 0; t < tokens; ++t) {
      const int64_t row = p.x_rows != nullptr ? p.x_rows[first + t] : first + t;
      x[t] = reinterpret_cast<const float*>(p.x + row * p.x_stride);
    }
    for (int n = 0; n < p.n; ++n) {
      const std::byte* w = p.w + n * p.w_stride;
      float* y = p.y + first * p.y_stride + n;
      if (tokens == 4) {
        dot_rows<V, kType, 4>(w, x, p.k, y, p.y_stride);
      } else {
        for (int t = 0; t < tokens; ++t) {
          dot_rows<V, kType, 1>(w, x + t, p.k, y + t * p.y_stride, p.y_stride);
        }
      }
    }
  }
}

template <typename V>
LinearFn float_kernel(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return linear_float<V, DType::kF32>;
    case DType::kF16:
      return linear_float<V, DType::kF16>;
    case DType::kBF16:
      return linear_float<V, DType::kBF16>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::lanes
