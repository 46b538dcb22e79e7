// Norm, activation, softmax and small vector kernels, written once over an instruction set's Vec16.
#pragma once

#include <cmath>
#include <limits>

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
  float highest = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  const V shift = V::broadcast(highest);
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

// One group of a cache row as floats.
template <typename V>
inline V load_kv(const std::byte* row, int64_t i, DType dtype) {
  if (dtype == DType::kF16) return V::load_f16(row + 2 * i);
  if (dtype == DType::kBF16) return V::load_bf16(row + 2 * i);
  return V::load(reinterpret_cast<const float*>(row) + i);
}

template <typename V>
void store_kv(const float* x, std::byte* out, int64_t n, DType kv_dtype) {
  // n is a multiple of 16: cache rows are made of whole heads.
  for (int64_t i = 0; i < n; i += 16) {
    const V value = V::load(x + i);
    if (kv_dtype == DType::kF16) {
      value.store_f16(out + 2 * i);
    } else if (kv_dtype == DType::kBF16) {
      value.store_bf16(out + 2 * i);
    } else {
      value.store(reinterpret_cast<float*>(out) + i);
    }
  }
}

}  // namespace tandem::cpu::lanes
