// Decodes the codebook types; quant/blocks.h draws their bytes. All values become integers: the
// half steps of the scales (0.5 + s) and the offset 1/8 of IQ1 move into the factor d, which stays
// exact because only powers of two are involved.
#include "quant/codebook_unpack.h"

#include <cstring>

#include "quant/blocks.h"
#include "quant/codebooks.h"
#include "quant/half.h"

namespace tandem::quant {
namespace {

// Group `index` of seven sign bits -> eight signs.
int eight_signs(uint32_t word, int index) {
  const uint32_t seven = (word >> (7 * index)) & 127U;
  const auto parity = static_cast<uint32_t>(__builtin_popcount(seven)) & 1U;
  return static_cast<int>(seven | parity << 7);
}

// `count` points of a table entry; bit i of `signs` negates point i.
void place(const int8_t* points, int count, int signs, int8_t* q) {
  for (int i = 0; i < count; ++i) {
    q[i] = static_cast<int8_t>((signs >> i) & 1 ? -points[i] : points[i]);
  }
}

// Scale 2 s + 1 of a group of 16 elements.
void set_scale(SuperBlock& out, int group, uint32_t s) {
  out.scale[group] = static_cast<int16_t>(2 * s + 1);
  out.min[group] = 0;
}

void set_scale32(SuperBlock& out, int group, uint32_t s) {
  set_scale(out, 2 * group, s);
  set_scale(out, 2 * group + 1, s);
}

uint32_t scale_nibble(const uint8_t* scales, int i) {
  return static_cast<uint32_t>(scales[i / 2] >> (i % 2 * 4)) & 15U;
}

void unpack(const BlockIQ2_XXS& b, SuperBlock& out) {
  out.d = to_float(b.d) * 0.125F;
  out.dmin = 0.0F;
  for (int j = 0; j < 8; ++j) {
    const uint32_t signs_scale = word32(b.groups[j].signs_scale);
    set_scale32(out, j, signs_scale >> 28);
    for (int i = 0; i < 4; ++i) {
      place(codebooks().iq2_xxs[b.groups[j].indices[i]], 8, eight_signs(signs_scale, i),
            out.q + 32 * j + 8 * i);
    }
  }
}

void unpack(const BlockIQ2_XS& b, SuperBlock& out) {
  out.d = to_float(b.d) * 0.125F;
  out.dmin = 0.0F;
  for (int g = 0; g < 16; ++g) set_scale(out, g, scale_nibble(b.scales, g));
  for (int i = 0; i < 32; ++i) {
    const uint32_t code = word16(b.codes[i]);
    place(codebooks().iq2_xs[code & 511U], 8, eight_signs(code >> 9, 0), out.q + 8 * i);
  }
}

void unpack(const BlockIQ2_S& b, SuperBlock& out) {
  out.d = to_float(b.d) * 0.125F;
  out.dmin = 0.0F;
  for (int g = 0; g < 16; ++g) set_scale(out, g, scale_nibble(b.scales, g));
  for (int i = 0; i < 32; ++i) {
    const int upper = (b.indices_high[i / 4] >> (i % 4 * 2)) & 3;
    place(codebooks().iq2_s[b.indices[i] | upper << 8], 8, b.signs[i], out.q + 8 * i);
  }
}

void unpack(const BlockIQ3_XXS& b, SuperBlock& out) {
  out.d = to_float(b.d) * 0.25F;
  out.dmin = 0.0F;
  for (int j = 0; j < 8; ++j) {
    const uint32_t signs_scale = word32(b.signs_scale[j]);
    set_scale32(out, j, signs_scale >> 28);
    for (int i = 0; i < 8; ++i) {
      const int signs = eight_signs(signs_scale, i / 2) >> (i % 2 * 4);
      place(codebooks().iq3_xxs[b.indices[8 * j + i]], 4, signs, out.q + 32 * j + 4 * i);
    }
  }
}

void unpack(const BlockIQ3_S& b, SuperBlock& out) {
  out.d = to_float(b.d);
  out.dmin = 0.0F;
  for (int j = 0; j < 8; ++j) set_scale32(out, j, scale_nibble(b.scales, j));
  for (int i = 0; i < 64; ++i) {
    const int ninth = (b.indices_high[i / 8] >> (i % 8)) & 1;
    const int signs = b.signs[i / 2] >> (i % 2 * 4);
    place(codebooks().iq3_s[b.indices[i] | ninth << 8], 4, signs, out.q + 4 * i);
  }
}

// Points -1, 0, 1 plus or minus 1/8, times 8.
void place_iq1(int index, bool minus, int8_t* q) {
  const int8_t* points = codebooks().iq1[index];
  for (int i = 0; i < 8; ++i) q[i] = static_cast<int8_t>(8 * points[i] + (minus ? -1 : 1));
}

void unpack(const BlockIQ1_S& b, SuperBlock& out) {
  out.d = to_float(b.d) * 0.125F;
  out.dmin = 0.0F;
  for (int j = 0; j < 8; ++j) {
    const uint32_t group = word16(b.groups[j]);
    set_scale32(out, j, (group >> 12) & 7U);
    for (int i = 0; i < 4; ++i) {
      const auto upper = static_cast<int>((group >> (3 * i)) & 7U);
      place_iq1(b.indices[4 * j + i] | upper << 8, (group >> 15) != 0, out.q + 32 * j + 8 * i);
    }
  }
}

void unpack(const BlockIQ1_M& b, SuperBlock& out) {
  uint32_t d = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t word = word16(b.scales[i]);
    d |= (word >> 12) << (4 * i);
    for (int j = 0; j < 4; ++j) set_scale(out, 4 * i + j, (word >> (3 * j)) & 7U);
  }
  out.d = to_float({static_cast<uint8_t>(d), static_cast<uint8_t>(d >> 8)}) * 0.125F;
  out.dmin = 0.0F;
  for (int i = 0; i < 32; ++i) {
    const int upper = b.indices_high[i / 2] >> (i % 2 * 4);
    place_iq1(b.indices[i] | (upper & 7) << 8, (upper & 8) != 0, out.q + 8 * i);
  }
}

template <DType kType>
void from_bytes(const std::byte* p, SuperBlock& out) {
  typename BlockOf<kType>::Type block;
  std::memcpy(&block, p, sizeof block);
  unpack(block, out);
}

}  // namespace

UnpackSuperBlock unpack_codebook(DType dtype) {
  switch (dtype) {
    case DType::kIQ2_XXS:
      return from_bytes<DType::kIQ2_XXS>;
    case DType::kIQ2_XS:
      return from_bytes<DType::kIQ2_XS>;
    case DType::kIQ2_S:
      return from_bytes<DType::kIQ2_S>;
    case DType::kIQ3_XXS:
      return from_bytes<DType::kIQ3_XXS>;
    case DType::kIQ3_S:
      return from_bytes<DType::kIQ3_S>;
    case DType::kIQ1_S:
      return from_bytes<DType::kIQ1_S>;
    case DType::kIQ1_M:
      return from_bytes<DType::kIQ1_M>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::quant
