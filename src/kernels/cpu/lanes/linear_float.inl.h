// Products of float, half and bfloat16 rows with float activations over an instruction set's Vec16:
// lane l takes k = l, l + 16, ... by fma, then the fixed tree.
//
// A block of rows and tokens shares its loads; its sums, a vector for each pair, fill the
// registers. Tokens are taken in groups whose activations stay in a core's own cache while all rows
// pass by.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/lanes/constants.inl.h"
#include "kernels/cpu/lanes/elementwise.inl.h"

namespace tandem::cpu::lanes {

// The last `count` weights of a row, from column i on. The missing lanes are -0, whose product with
// the activations' missing +0 changes no sum, not even one of -0.
template <typename V, DType kType>
inline V load_last_weights(const std::byte* row, int64_t i, int count) {
  constexpr int kBytes = kElementBytes<kType>;
  std::byte padded[64] = {};
  for (int l = 1; l <= 16; ++l) padded[l * kBytes - 1] = std::byte{0x80};
  for (int b = 0; b < count * kBytes; ++b) padded[b] = row[i * kBytes + b];
  return load_elements<V, kType>(padded, 0);
}

// y[t, r] for kRows rows, w_stride bytes apart, and kTokens tokens.
template <typename V, DType kType, int kRows, int kTokens>
inline void dot_block(const std::byte* w, int64_t w_stride, const float* const* tokens, int64_t k,
                      float* y, int64_t y_stride) {
  const std::byte* row[kRows];
  const float* x[kTokens];
  for (int r = 0; r < kRows; ++r) row[r] = w + r * w_stride;
  for (int t = 0; t < kTokens; ++t) x[t] = tokens[t];
  V acc[kTokens * kRows];
#pragma GCC unroll 32
  for (int i = 0; i < kTokens * kRows; ++i) acc[i] = V::zero();
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    V weights[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) weights[r] = load_elements<V, kType>(row[r], i);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const V value = V::load(x[t] + i);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        acc[t * kRows + r] = V::fma(weights[r], value, acc[t * kRows + r]);
      }
    }
  }
  if (i < k) {
    const int count = static_cast<int>(k - i);
    for (int r = 0; r < kRows; ++r) {
      const V weights = load_last_weights<V, kType>(row[r], i, count);
      for (int t = 0; t < kTokens; ++t) {
        acc[t * kRows + r] = V::fma(weights, V::load_first(x[t] + i, count), acc[t * kRows + r]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    const V* sums = acc + t * kRows;
    float* out = y + t * y_stride;
    int r = 0;
    for (; r + 4 <= kRows; r += 4) {
      V::store_sums(sums[r], sums[r + 1], sums[r + 2], sums[r + 3], out + r);
    }
    for (; r < kRows; ++r) out[r] = sums[r].sum();
  }
}

// All rows with kTokens tokens.
template <typename V, DType kType, int kTokens>
inline void dot_rows(const LinearParams& p, int first, int end, const float* const* x, float* y) {
  // With few tokens the weights' way from memory counts: more rows are more streams.
  constexpr bool kWide = V::kAccumulators >= 16;
  constexpr int kRows = kWide ? (kTokens <= 3 ? 8 : 4) : (kTokens == 1 ? 4 : 2);
  int n = first;
  for (; n + kRows <= end; n += kRows) {
    dot_block<V, kType, kRows, kTokens>(p.w + n * p.w_stride, p.w_stride, x, p.k, y + n,
                                        p.y_stride);
  }
  for (; n < end; ++n) {
    dot_block<V, kType, 1, kTokens>(p.w + n * p.w_stride, p.w_stride, x, p.k, y + n, p.y_stride);
  }
}

template <typename V, DType kType>
void linear_float(const LinearParams& p) {
  constexpr int kTokens = V::kAccumulators >= 16 ? 6 : 2;
  constexpr int kCacheFloats = 65536;  // 256 KiB of activations
  const int group = kCacheFloats / p.k / kTokens * kTokens;
  const int tokens_at_once = group < kTokens ? kTokens : group;
  // Rows pass by in groups too, each read from the first-level cache (16 KiB) by all tokens.
  const int rows_fit = 4096 / p.k / 8 * 8;
  const int rows_at_once = rows_fit < 8 ? 8 : rows_fit;
  for (int begin = 0; begin < p.t; begin += tokens_at_once) {
    const int end = p.t - begin < tokens_at_once ? p.t : begin + tokens_at_once;
    for (int n = 0; n < p.n; n += rows_at_once) {
      const int rows_end = p.n - n < rows_at_once ? p.n : n + rows_at_once;
      for (int t = begin; t < end; t += kTokens) {
        const int count = end - t < kTokens ? end - t : kTokens;
        const float* x[kTokens];
        for (int i = 0; i < count; ++i) {
          const int64_t row = p.x_rows != nullptr ? p.x_rows[t + i] : t + i;
          x[i] = reinterpret_cast<const float*>(p.x + row * p.x_stride);
        }
        with_constant<kTokens>(count, [&](auto tokens) {
          dot_rows<V, kType, tokens.value>(p, n, rows_end, x, p.y + t * p.y_stride);
        });
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
