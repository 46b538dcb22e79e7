// Norm, activation, softmax, rotation and small vector kernels, written once over an instruction
// set's Vec16.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/lanes/math.inl.h"

namespace tandem::cpu::lanes {

// Calls body(offset, count) for each group of 16 lanes of [0, n); only the last count may be
// below 16.
template <typename Body>
inline void for_each_group(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, 16);
  if (i < n) body(i, static_cast<int>(n - i));
}

template <typename V>
inline V load_group(const float* p, int count) {
  return count == 16 ? V::load(p) : V::load_first(p, count);
}

template <typename V>
inline void store_group(V value, float* p, int count) {
  if (count == 16) {
    value.store(p);
  } else {
    value.store_first(p, count);
  }
}

template <typename V>
void rms_norm(const RmsNormParams& p) {
  V squares = V::zero();
  for_each_group(p.n, [&](int64_t i, int count) {
    const V x = load_group<V>(p.x + i, count);
    squares = V::fma(x, x, squares);
  });
  const float mean = squares.sum() / static_cast<float>(p.n);
  const V factor = V::broadcast(1.0F / std::sqrt(mean + p.epsilon));
  for_each_group(p.n, [&](int64_t i, int count) {
    const V x = load_group<V>(p.x + i, count);
    const V weight = load_group<V>(p.weight + i, count);
    store_group(x * factor * weight, p.y + i, count);
  });
}

// silu(g) * u with silu(g) = g / (1 + exp(-g)).
template <typename V>
void silu_mul(const float* gate, const float* up, float* out, int64_t n) {
  const V one = V::broadcast(1.0F);
  for_each_group(n, [&](int64_t i, int count) {
    const V g = load_group<V>(gate + i, count);
    const V silu = g / (one + exp(V::zero() - g));
    store_group(silu * load_group<V>(up + i, count), out + i, count);
  });
}

template <typename V>
void sigmoid(float* x, int64_t n) {
  const V one = V::broadcast(1.0F);
  for_each_group(n, [&](int64_t i, int count) {
    const V e = exp(V::zero() - load_group<V>(x + i, count));
    store_group(one / (one + e), x + i, count);
  });
}

template <typename V>
void add(const float* a, const float* b, float* out, int64_t n) {
  for_each_group(n, [&](int64_t i, int count) {
    store_group(load_group<V>(a + i, count) + load_group<V>(b + i, count), out + i, count);
  });
}

template <typename V>
void multiply_add(const float* x, float factor, float* y, int64_t n) {
  const V f = V::broadcast(factor);
  for_each_group(n, [&](int64_t i, int count) {
    store_group(V::fma(f, load_group<V>(x + i, count), load_group<V>(y + i, count)), y + i, count);
  });
}

template <typename V>
void softmax(float* x, int64_t n) {
  V highest = V::broadcast(-std::numeric_limits<float>::infinity());
  int64_t first = 0;
  for (; first + 16 <= n; first += 16) highest = V::max(V::load(x + first), highest);
  float maximum = highest.maximum();
  for (; first < n; ++first) maximum = x[first] > maximum ? x[first] : maximum;
  const V shift = V::broadcast(maximum);
  V total = V::zero();
  for_each_group(n, [&](int64_t i, int count) {
    const V e = exp(load_group<V>(x + i, count) - shift);
    store_group(e, x + i, count);
    total = total + load_group<V>(x + i, count);  // lanes beyond the end count as 0
  });
  const V factor = V::broadcast(1.0F / total.sum());
  for_each_group(n, [&](int64_t i, int count) {
    store_group(load_group<V>(x + i, count) * factor, x + i, count);
  });
}

template <typename V>
void rope(const RopeParams& p) {
  const int64_t half = p.dims / 2;
  for (int h = 0; h < p.heads; ++h) {
    float* x = p.x + h * p.head_stride;
    if (p.interleaved) {
      for_each_group(p.dims, [&](int64_t i, int count) {
        const V angles = load_group<V>(p.table + i, count);
        store_group(V::rotate_pairs(load_group<V>(x + i, count), angles), x + i, count);
      });
      continue;
    }
    for_each_group(half, [&](int64_t i, int count) {
      const V a = load_group<V>(x + i, count), b = load_group<V>(x + half + i, count);
      const V cos = load_group<V>(p.table + i, count);
      const V sin = load_group<V>(p.table + half + i, count);
      store_group(a * cos - b * sin, x + i, count);
      store_group(a * sin + b * cos, x + half + i, count);
    });
  }
}

template <DType kType>
inline constexpr int kElementBytes = kType == DType::kF32 ? 4 : 2;

// Sixteen elements of a float type, from element i on.
template <typename V, DType kType>
inline V load_elements(const std::byte* p, int64_t i) {
  if constexpr (kType == DType::kF16) return V::load_f16(p + 2 * i);
  if constexpr (kType == DType::kBF16) return V::load_bf16(p + 2 * i);
  if constexpr (kType == DType::kF32) return V::load(reinterpret_cast<const float*>(p) + i);
}

template <typename V>
inline void store_elements(V value, std::byte* out, DType dtype) {
  if (dtype == DType::kF16) {
    value.store_f16(out);
  } else if (dtype == DType::kBF16) {
    value.store_bf16(out);
  } else {
    value.store(reinterpret_cast<float*>(out));
  }
}

template <typename V>
void store_kv(const float* x, std::byte* out, int64_t n, DType kv_dtype) {
  const int64_t bytes = kv_dtype == DType::kF32 ? 4 : 2;
  for (int64_t i = 0; i < n; i += 16) store_elements(V::load(x + i), out + bytes * i, kv_dtype);
}

template <typename V>
void store_kv_column(const float* x, std::byte* out, int64_t n, DType kv_dtype) {
  const auto scatter = [&](auto bytes) {
    std::byte group[64];
    for (int64_t i = 0; i < n; i += 16) {
      store_elements(V::load(x + i), group, kv_dtype);
      for (int64_t l = 0; l < 16; ++l) {
        std::memcpy(out + (i + l) * kAttentionTile * bytes, group + l * bytes, bytes);
      }
    }
  };
  if (kv_dtype == DType::kF32) {
    scatter(std::integral_constant<int, 4>{});
  } else {
    scatter(std::integral_constant<int, 2>{});
  }
}

}  // namespace tandem::cpu::lanes
