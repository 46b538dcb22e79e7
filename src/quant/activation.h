// The integer formats of activations: one scale per block, quantised for each row on its own, so
// that a row's bits do not depend on its neighbours. Scales stay float32 (llama.cpp rounds those of
// 32-wide blocks to half).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "quant/types.h"

namespace tandem::quant {

// Below this largest magnitude a block counts as all zero: 16256 / max|x| would overflow.
inline constexpr float kSmallestMaximum = 0x1p-110F;

// In both formats, with m = max|x| and h the highest integer: d = m / h and
// q = round-to-nearest-even(x * (h / m)), or 0 where m is too small. NaNs do not count in m; where
// the product is not a number in [-h, h] (NaN or infinity in the row), q is -h.
//
// A row of k activations is sections one after the other, each padded to 64 bytes, so that kernels
// broadcast from them and matrix tiles load from them without crossing cache lines. Byte is
// std::byte or const std::byte.

// kA256: h = 127, k a multiple of 256.
inline constexpr int kA256Sums = 24;  // of a block: sixteen sums of 16, then eight sums of 32
template <typename Byte>
struct A256Row {
  template <typename T>
  using Pointer = std::conditional_t<std::is_const_v<Byte>, const T*, T*>;
  Pointer<int8_t> q;  // [k]
  // [k / 256, 24]. Within four neighbours the order is 0 2 1 3: then a 32-bit word holds the
  // partners of the even, or of the odd, bytes of a word of scales.
  Pointer<int16_t> sums;
  Pointer<float> d;  // [k / 256]
};

// kA32: h = 16256 = 127 * 128: 15 bits, as two int8 operands, q = 128 hi + lo; k a multiple of 32.
// With 8 bits the default model strays farther from its float32 outputs than allowed
// (docs/decisions/0005-activation-precision.md).
template <typename Byte>
struct A32Row {
  template <typename T>
  using Pointer = std::conditional_t<std::is_const_v<Byte>, const T*, T*>;
  Pointer<int8_t> hi;    // [k] in [-127, 127]
  Pointer<int8_t> lo;    // [k] in [-64, 63]
  Pointer<int32_t> sum;  // [k / 32] of q
  Pointer<float> d;      // [k / 32]
};

inline int64_t padded_section(int64_t bytes) { return (bytes + 63) / 64 * 64; }

template <typename Byte>
A256Row<Byte> a256_row(Byte* row, int64_t k) {
  using Row = A256Row<Byte>;
  const int64_t sums = padded_section(k);
  const int64_t d = sums + padded_section(k / 256 * kA256Sums * 2);
  return {reinterpret_cast<typename Row::template Pointer<int8_t>>(row),
          reinterpret_cast<typename Row::template Pointer<int16_t>>(row + sums),
          reinterpret_cast<typename Row::template Pointer<float>>(row + d)};
}

template <typename Byte>
A32Row<Byte> a32_row(Byte* row, int64_t k) {
  using Row = A32Row<Byte>;
  const int64_t section = padded_section(k);
  const int64_t sum = 2 * section;
  const int64_t d = sum + padded_section(k / 32 * 4);
  return {reinterpret_cast<typename Row::template Pointer<int8_t>>(row),
          reinterpret_cast<typename Row::template Pointer<int8_t>>(row + section),
          reinterpret_cast<typename Row::template Pointer<int32_t>>(row + sum),
          reinterpret_cast<typename Row::template Pointer<float>>(row + d)};
}

// Bytes of a row of k activations in the format, a multiple of 64 for the integer ones; k is a
// multiple of the block.
int64_t activation_bytes(ActivationFormat format, int64_t k);

// Position of sum i of 16 (or of 32) elements within its block's sums of that width.
constexpr int sum_position(int i) { return i % 4 == 1 || i % 4 == 2 ? i ^ 3 : i; }

}  // namespace tandem::quant
