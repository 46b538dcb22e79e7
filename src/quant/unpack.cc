// Decodes the 32-wide types and the K-quants; quant/blocks.h draws their bytes.
#include "quant/unpack.h"

#include <cstring>

#include "quant/blocks.h"
#include "quant/codebook_unpack.h"
#include "quant/half.h"

namespace tandem::quant {

const int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};
const int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

namespace {

// Element i of a run of four-bit codes: low halves of `half` bytes, then their high halves.
int nibble(const uint8_t* codes, int i, int half) {
  return i < half ? codes[i] & 15 : codes[i - half] >> 4;
}

void unpack(const BlockQ4_0& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = 0.0F;
  for (int i = 0; i < 32; ++i) out.q[i] = static_cast<int8_t>(nibble(b.codes, i, 16) - 8);
}

void unpack(const BlockQ4_1& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = to_float(b.m);
  for (int i = 0; i < 32; ++i) out.q[i] = static_cast<int8_t>(nibble(b.codes, i, 16));
}

int five_bits(const uint8_t (&codes)[16], const uint8_t (&fifth_bits)[4], int i) {
  return nibble(codes, i, 16) | ((fifth_bits[i / 8] >> (i % 8)) & 1) << 4;
}

void unpack(const BlockQ5_0& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = 0.0F;
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<int8_t>(five_bits(b.codes, b.fifth_bits, i) - 16);
  }
}

void unpack(const BlockQ5_1& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = to_float(b.m);
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<int8_t>(five_bits(b.codes, b.fifth_bits, i));
  }
}

void unpack(const BlockQ8_0& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = 0.0F;
  std::memcpy(out.q, b.q, sizeof b.q);
}

void unpack(const BlockIQ4_NL& b, Block32& out) {
  out.d = to_float(b.d);
  out.m = 0.0F;
  for (int i = 0; i < 32; ++i) out.q[i] = kIq4Values[nibble(b.codes, i, 16)];
}

// Half of 2^(exponent - 127), because the values are doubled; the two smallest are denormal.
void unpack(const BlockMXFP4& b, Block32& out) {
  const uint32_t e = b.exponent;
  const uint32_t bits = e < 2 ? 0x00200000U << e : (e - 1) << 23;
  std::memcpy(&out.d, &bits, sizeof bits);
  out.m = 0.0F;
  for (int i = 0; i < 32; ++i) out.q[i] = kMxfp4Values[nibble(b.codes, i, 16)];
}

int two_bits(const uint8_t (&codes)[64], int i) {
  return (codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
}

// A further bit of element i: bit i / 32 of byte i % 32.
int further_bit(const uint8_t (&bits)[32], int i) { return (bits[i % 32] >> (i / 32)) & 1; }

void unpack(const BlockQ2_K& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = to_float(b.dmin);
  for (int g = 0; g < 16; ++g) {
    out.scale[g] = static_cast<int16_t>(b.scales[g] & 15);
    out.min[g] = static_cast<int16_t>(b.scales[g] >> 4);
  }
  for (int i = 0; i < 256; ++i) out.q[i] = static_cast<int8_t>(two_bits(b.codes, i));
}

void unpack(const BlockQ3_K& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = 0.0F;
  for (int g = 0; g < 16; ++g) {
    const int low = nibble(b.scales, g, 8);
    const int high = (b.scales[8 + g % 4] >> (g / 4 * 2)) & 3;
    out.scale[g] = static_cast<int16_t>((low | high << 4) - 32);
    out.min[g] = 0;
  }
  for (int i = 0; i < 256; ++i) {
    out.q[i] = static_cast<int8_t>(two_bits(b.codes, i) + 4 * further_bit(b.third_bits, i) - 4);
  }
}

// The scales and minima of Q4_K and Q5_K.
void unpack_scales(const uint8_t (&s)[12], SuperBlock& out) {
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    out.scale[2 * j] = out.scale[2 * j + 1] = static_cast<int16_t>(scale);
    out.min[2 * j] = out.min[2 * j + 1] = static_cast<int16_t>(min);
  }
}

int four_bits(const uint8_t (&codes)[128], int i) {
  return nibble(codes + i / 64 * 32, i % 64, 32);
}

void unpack(const BlockQ4_K& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = to_float(b.dmin);
  unpack_scales(b.scales, out);
  for (int i = 0; i < 256; ++i) out.q[i] = static_cast<int8_t>(four_bits(b.codes, i));
}

void unpack(const BlockQ5_K& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = to_float(b.dmin);
  unpack_scales(b.scales, out);
  for (int i = 0; i < 256; ++i) {
    out.q[i] = static_cast<int8_t>(four_bits(b.codes, i) | further_bit(b.fifth_bits, i) << 4);
  }
}

void unpack(const BlockQ6_K& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = 0.0F;
  for (int g = 0; g < 16; ++g) {
    out.scale[g] = b.scales[g];
    out.min[g] = 0;
  }
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, l = i % 128;
    const int low = nibble(b.low + 64 * half, l, 64);
    const int high = (b.high[32 * half + l % 32] >> (l / 32 * 2)) & 3;
    out.q[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

void unpack(const BlockIQ4_XS& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = 0.0F;
  for (int j = 0; j < 8; ++j) {
    const int low = (b.scales_low[j / 2] >> (j % 2 * 4)) & 15;
    const int high = (b.scales_high[j / 4] >> (j % 4 * 2)) & 3;
    const auto scale = static_cast<int16_t>((low | high << 4) - 32);
    out.scale[2 * j] = out.scale[2 * j + 1] = scale;
    out.min[2 * j] = out.min[2 * j + 1] = 0;
    for (int i = 0; i < 32; ++i) {
      out.q[32 * j + i] = kIq4Values[nibble(b.codes + 16 * j, i, 16)];
    }
  }
}

template <DType kType, typename Unpacked>
void from_bytes(const std::byte* p, Unpacked& out) {
  typename BlockOf<kType>::Type block;
  std::memcpy(&block, p, sizeof block);
  unpack(block, out);
}

}  // namespace

UnpackSuperBlock unpack_super_block(DType dtype) {
  switch (dtype) {
    case DType::kQ2_K:
      return from_bytes<DType::kQ2_K>;
    case DType::kQ3_K:
      return from_bytes<DType::kQ3_K>;
    case DType::kQ4_K:
      return from_bytes<DType::kQ4_K>;
    case DType::kQ5_K:
      return from_bytes<DType::kQ5_K>;
    case DType::kQ6_K:
      return from_bytes<DType::kQ6_K>;
    case DType::kIQ4_XS:
      return from_bytes<DType::kIQ4_XS>;
    default:
      return unpack_codebook(dtype);
  }
}

UnpackBlock32 unpack_block32(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return from_bytes<DType::kQ4_0>;
    case DType::kQ4_1:
      return from_bytes<DType::kQ4_1>;
    case DType::kQ5_0:
      return from_bytes<DType::kQ5_0>;
    case DType::kQ5_1:
      return from_bytes<DType::kQ5_1>;
    case DType::kQ8_0:
      return from_bytes<DType::kQ8_0>;
    case DType::kIQ4_NL:
      return from_bytes<DType::kIQ4_NL>;
    case DType::kMXFP4:
      return from_bytes<DType::kMXFP4>;
    default:
      return nullptr;
  }
}

bool has_minima(DType dtype) {
  return dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ2_K ||
         dtype == DType::kQ4_K || dtype == DType::kQ5_K;
}

}  // namespace tandem::quant
