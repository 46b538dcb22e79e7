// The integer formats of activations: one scale per block, quantised for each row on its own, so
// that a row's bits do not depend on its neighbours. Scales stay float32 (llama.cpp rounds those of
// 32-wide blocks to half).
#pragma once

#include <cstdint>

#include "quant/types.h"

namespace tandem::quant {

// Below this largest magnitude a block counts as all zero: 16256 / max|x| would overflow.
inline constexpr float kSmallestMaximum = 0x1p-110F;

// In both formats, with m = max|x| and h the highest integer: d = m / h and
// q = round-to-nearest-even(x * (h / m)), or 0 where m is too small. NaNs do not count in m; where
// the product is not a number in [-h, h] (NaN or infinity in the row), q is -h.

// h = 16256 = 127 * 128: 15 bits, as two int8 operands, q = 128 hi + lo. With 8 bits the default
// model strays farther from its float32 outputs than allowed
// (docs/decisions/0005-activation-precision.md).
struct BlockA32 {
  float d;
  int32_t sum;    // sum of q
  int8_t hi[32];  // in [-127, 127]
  int8_t lo[32];  // in [-64, 63]
};
static_assert(sizeof(BlockA32) == 72);

// h = 127.
struct BlockA256 {
  float d;
  int8_t q[256];
  int16_t sum[16];  // sum of q over 16 elements each
};
static_assert(sizeof(BlockA256) == 292);

// Bytes of a row of k activations in the format; k is a multiple of the block.
int64_t activation_bytes(ActivationFormat format, int64_t k);

}  // namespace tandem::quant
