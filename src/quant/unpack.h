// Every quantised block as plain integers and float factors: the form in which a type's meaning is
// written down once, for dequantisation and for the scalar dot product.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace tandem::quant {

// element i = (d * scale[i / 16]) * q[i] - dmin * min[i / 16]
struct SuperBlock {
  float d;
  float dmin;
  int16_t scale[16];
  int16_t min[16];
  int8_t q[256];
};

// element i = d * q[i] + m
struct Block32 {
  float d;
  float m;
  int8_t q[32];
};

using UnpackSuperBlock = void (*)(const std::byte* block, SuperBlock& out);
using UnpackBlock32 = void (*)(const std::byte* block, Block32& out);

// Null for types that are not 256 (32) wide.
UnpackSuperBlock unpack_super_block(DType dtype);
UnpackBlock32 unpack_block32(DType dtype);

// Whether blocks of the type have minima (dmin or m): decides how many float updates a dot product
// makes.
bool has_minima(DType dtype);

// Values of the 4-bit codes of IQ4_NL and IQ4_XS, and of MXFP4 (doubled).
extern const int8_t kIq4Values[16];
extern const int8_t kMxfp4Values[16];

}  // namespace tandem::quant
