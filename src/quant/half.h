// Small floats and little-endian words, read from bytes. Not for files that are compiled for one
// instruction set: inline functions of those could be linked into the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "quant/blocks.h"

namespace tandem::quant {

inline float to_float(Half h) {
  _Float16 half;
  std::memcpy(&half, h.bytes, sizeof half);
  return static_cast<float>(half);
}

inline float bf16_to_float(const std::byte* p) {
  const uint32_t bits = static_cast<uint32_t>(p[1]) << 24 | static_cast<uint32_t>(p[0]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t word16(const uint8_t (&bytes)[2]) {
  return static_cast<uint32_t>(bytes[0] | bytes[1] << 8);
}

inline uint32_t word32(const uint8_t (&bytes)[4]) {
  uint32_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace tandem::quant
