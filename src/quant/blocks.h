// The bytes of a block of each quantised type, in file order. A row is blocks one after the other;
// the structs have no alignment, so any byte of a mapped file may start one. What the bytes mean is
// drawn here and computed in quant/unpack.h.
//
// Words of several bytes are little-endian. "Halves" are IEEE binary16. Bit ranges are [high:low].
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace tandem::quant {

struct Half {
  uint8_t bytes[2];
};

// Blocks of 32 elements.
//
// Codes of four bits:    byte l = | element l + 16 [7:4] | element l [3:0] |,  l = 0 .. 15
// Fifth bits:            bit l of the 32-bit word belongs to element l

struct BlockQ4_0 {  // d * (code - 8)
  Half d;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

struct BlockQ4_1 {  // d * code + m
  Half d;
  Half m;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

struct BlockQ5_0 {  // d * (code - 16)
  Half d;
  uint8_t fifth_bits[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

struct BlockQ5_1 {  // d * code + m
  Half d;
  Half m;
  uint8_t fifth_bits[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

struct BlockQ8_0 {  // d * q
  Half d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

struct BlockIQ4_NL {  // d * kIq4Values[code]
  Half d;
  uint8_t codes[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18);

struct BlockMXFP4 {  // 2^(exponent - 128) * kMxfp4Values[code]
  uint8_t exponent;
  uint8_t codes[16];
};
static_assert(sizeof(BlockMXFP4) == 17);

// Super-blocks of 256 elements: the K-quants.
//
// Codes of four bits:    four runs of 32 bytes, a run for 64 elements:
//                        byte l = | element l + 32 [7:4] | element l [3:0] |,  l = 0 .. 31
// Codes of two bits:     two runs of 32 bytes, a run for 128 elements:
//                        byte l = | l + 96 [7:6] | l + 64 [5:4] | l + 32 [3:2] | l [1:0] |
// A further bit:         bit j of byte l belongs to element 32 j + l

struct BlockQ2_K {     // d * scale * code - dmin * min, for 16 elements each
  uint8_t scales[16];  // | min [7:4] | scale [3:0] |
  uint8_t codes[64];   // two bits
  Half d;
  Half dmin;
};
static_assert(sizeof(BlockQ2_K) == 84);

// Scales of 16 elements each, s = 0 .. 15:
//   bytes 0-7   | scale s + 8, lower bits [7:4] | scale s, lower bits [3:0] |
//   bytes 8-11  upper two bits of scales s, s + 4, s + 8, s + 12 from the lowest bits up
struct BlockQ3_K {  // d * (scale - 32) * (code + 4 * third bit - 4)
  uint8_t third_bits[32];
  uint8_t codes[64];  // two bits
  uint8_t scales[12];
  Half d;
};
static_assert(sizeof(BlockQ3_K) == 110);

// Eight scales and eight minima of six bits, for 32 elements each:
//   bytes 0-3   | scale j + 4 [5:4] | scale j [5:0] |,  j = 0 .. 3
//   bytes 4-7   | min   j + 4 [5:4] | min   j [5:0] |
//   bytes 8-11  | min   j + 4 [3:0] | scale j + 4 [3:0] |
struct BlockQ4_K {  // d * scale * code - dmin * min
  Half d;
  Half dmin;
  uint8_t scales[12];
  uint8_t codes[128];  // four bits
};
static_assert(sizeof(BlockQ4_K) == 144);

struct BlockQ5_K {  // as Q4_K with a fifth bit
  Half d;
  Half dmin;
  uint8_t scales[12];
  uint8_t fifth_bits[32];
  uint8_t codes[128];  // four bits
};
static_assert(sizeof(BlockQ5_K) == 176);

// Two halves of 128 elements, each with 64 bytes of low codes and 32 of high codes:
//   low byte l   = | element l + 64 [3:0] | element l [3:0] |,  l = 0 .. 63
//   high byte l  = | l + 96 [5:4] | l + 64 [5:4] | l + 32 [5:4] | l [5:4] |,  l = 0 .. 31
struct BlockQ6_K {  // d * scale * (code - 32), for 16 elements each
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  Half d;
};
static_assert(sizeof(BlockQ6_K) == 210);

struct BlockIQ4_XS {  // d * (scale - 32) * kIq4Values[code], for 32 elements each
  Half d;
  uint8_t scales_high[2];  // scale j [5:4] in bits 2j, 2j + 1 of the word
  uint8_t scales_low[4];   // | scale 2j + 1 [3:0] | scale 2j [3:0] |
  uint8_t codes[128];      // four bits, eight runs of 16 bytes as in IQ4_NL
};
static_assert(sizeof(BlockIQ4_XS) == 136);

// Super-blocks of 256 elements whose codes index a table of points (quant/codebooks.h).
//
// An index picks 8 (IQ3: 4) neighbouring values. Seven stored signs give eight: the eighth makes
// the number of minuses even.

struct BlockIQ2_XXS {  // (d / 8) (2 scale + 1) * point, for 32 elements each
  Half d;
  struct Group {
    uint8_t indices[4];
    uint8_t signs_scale[4];  // | scale [31:28] | signs 3 [27:21] | 2 | 1 | signs 0 [6:0] |
  } groups[8];
};
static_assert(sizeof(BlockIQ2_XXS) == 66);

struct BlockIQ2_XS {  // (d / 8) (2 scale + 1) * point, for 16 elements each
  Half d;
  uint8_t codes[32][2];  // | signs [15:9] | index [8:0] |
  uint8_t scales[8];     // | scale 2j + 1 [7:4] | scale 2j [3:0] |
};
static_assert(sizeof(BlockIQ2_XS) == 74);

struct BlockIQ2_S {  // (d / 8) (2 scale + 1) * point, for 16 elements each
  Half d;
  uint8_t indices[32];      // [7:0]
  uint8_t signs[32];        // all eight
  uint8_t indices_high[8];  // [9:8] of four indices, lowest first
  uint8_t scales[8];        // | scale 2j + 1 [7:4] | scale 2j [3:0] |
};
static_assert(sizeof(BlockIQ2_S) == 82);

struct BlockIQ3_XXS {  // (d / 4) (2 scale + 1) * point, for 32 elements each
  Half d;
  uint8_t indices[64];
  uint8_t signs_scale[8][4];  // | scale [31:28] | signs 3 [27:21] | 2 | 1 | signs 0 [6:0] |
};
static_assert(sizeof(BlockIQ3_XXS) == 98);

struct BlockIQ3_S {  // d (2 scale + 1) * point, for 32 elements each
  Half d;
  uint8_t indices[64];      // [7:0]
  uint8_t indices_high[8];  // [8] of eight indices, lowest first
  uint8_t signs[32];
  uint8_t scales[4];  // | scale 2j + 1 [7:4] | scale 2j [3:0] |
};
static_assert(sizeof(BlockIQ3_S) == 110);

struct BlockIQ1_S {  // d (2 scale + 1) * (point + 1/8, or - 1/8 if minus), for 32 elements each
  Half d;
  uint8_t indices[32];   // [7:0]
  uint8_t groups[8][2];  // | minus [15] | scale [14:12] | index 3 [10:8] | 2 | 1 | index 0 [2:0] |
};
static_assert(sizeof(BlockIQ1_S) == 50);

struct BlockIQ1_M {          // as IQ1_S; scales of 16 elements, minus of 8
  uint8_t indices[32];       // [7:0]
  uint8_t indices_high[16];  // | minus [7] | index 2l + 1 [10:8] | minus [3] | index 2l [10:8] |
  uint8_t scales[4][2];      // | quarter of d [15:12] | scale 3 | 2 | 1 | scale 0 [2:0] |
};
static_assert(sizeof(BlockIQ1_M) == 56);

// BlockOf<type>::Type: the struct of a quantised type.
template <DType kType>
struct BlockOf;

// clang-format off
template <> struct BlockOf<DType::kQ4_0> { using Type = BlockQ4_0; };
template <> struct BlockOf<DType::kQ4_1> { using Type = BlockQ4_1; };
template <> struct BlockOf<DType::kQ5_0> { using Type = BlockQ5_0; };
template <> struct BlockOf<DType::kQ5_1> { using Type = BlockQ5_1; };
template <> struct BlockOf<DType::kQ8_0> { using Type = BlockQ8_0; };
template <> struct BlockOf<DType::kIQ4_NL> { using Type = BlockIQ4_NL; };
template <> struct BlockOf<DType::kMXFP4> { using Type = BlockMXFP4; };
template <> struct BlockOf<DType::kQ2_K> { using Type = BlockQ2_K; };
template <> struct BlockOf<DType::kQ3_K> { using Type = BlockQ3_K; };
template <> struct BlockOf<DType::kQ4_K> { using Type = BlockQ4_K; };
template <> struct BlockOf<DType::kQ5_K> { using Type = BlockQ5_K; };
template <> struct BlockOf<DType::kQ6_K> { using Type = BlockQ6_K; };
template <> struct BlockOf<DType::kIQ4_XS> { using Type = BlockIQ4_XS; };
template <> struct BlockOf<DType::kIQ2_XXS> { using Type = BlockIQ2_XXS; };
template <> struct BlockOf<DType::kIQ2_XS> { using Type = BlockIQ2_XS; };
template <> struct BlockOf<DType::kIQ2_S> { using Type = BlockIQ2_S; };
template <> struct BlockOf<DType::kIQ3_XXS> { using Type = BlockIQ3_XXS; };
template <> struct BlockOf<DType::kIQ3_S> { using Type = BlockIQ3_S; };
template <> struct BlockOf<DType::kIQ1_S> { using Type = BlockIQ1_S; };
template <> struct BlockOf<DType::kIQ1_M> { using Type = BlockIQ1_M; };
// clang-format on

}  // namespace tandem::quant
