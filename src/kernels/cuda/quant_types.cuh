// The quantised types on the device: a struct for each, how words of a panel become codes and
// scales. quant/blocks.h draws the bytes, quant/unpack.cc defines what they mean. Every kernel
// reads weights through these.
//
//   codes(lines, c, j)              bytes of 32 columns j of the stage, kBias above the integers
//   scales(lines, g, j, blocks)     the same columns' scales and minima
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/quant_stage.cuh"

namespace tandem::cuda {

__device__ inline float half_low(uint32_t word) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word)));
}
__device__ inline float half_high(uint32_t word) { return half_low(word >> 16); }
__device__ inline uint32_t low_nibbles(uint32_t word) { return word & 0x0f0f0f0fU; }
__device__ inline uint32_t high_nibbles(uint32_t word) { return (word >> 4) & 0x0f0f0f0fU; }
__device__ inline int byte_of(uint32_t word, int i) {
  return static_cast<int>((word >> (8 * i)) & 255U);
}
// Bits 0-3 -> bit 4 of the four bytes.
__device__ inline uint32_t spread_to_bit4(uint32_t bits) {
  return ((bits & 15U) * 0x00204081U & 0x01010101U) << 4;
}

template <int kWordsOf, int kRestOf, int kBlockOf>
struct TypeBase {
  static constexpr int kWords = kWordsOf, kRest = kRestOf, kBlock = kBlockOf;
  using Geometry = StageGeometry<kWords, kRest, kBlock>;
  static constexpr int kGroups = 1;  // of scales in 32 columns
  static constexpr bool kHasMin = false;
  static constexpr bool kFullBytes = false;  // codes above 127
  static constexpr float kBias = 0;

  // The halves d of rows 2g and 2g + 1, where they are the rest of block b.
  __device__ static uint32_t rest_halves(const Lines& lines, int g, int b, int blocks) {
    return lines.word_at(Geometry::rest(b, blocks) + 4 * g);
  }
};

// Sixteen values as bytes in four words, picked by the nibbles of a word.
struct NibbleTable {
  uint32_t t0, t1, t2, t3;
  __device__ uint32_t pick(uint32_t three_bits, uint32_t select) const {
    return __byte_perm(__byte_perm(t0, t1, three_bits), __byte_perm(t2, t3, three_bits), select);
  }
  // low and high: values of the low and of the high nibbles.
  __device__ void look_up(uint32_t word, uint32_t& low, uint32_t& high) const {
    const uint32_t three_bits = word & 0x77777777U;
    const uint32_t select = 0x32103210U | ((word >> 1) & 0x44444444U);  // by the nibbles' top bits
    const uint32_t first = pick(three_bits & 0xffffU, select & 0xffffU);
    const uint32_t second = pick(three_bits >> 16, select >> 16);
    low = __byte_perm(first, second, 0x6420);
    high = __byte_perm(first, second, 0x7531);
  }
};
// kIq4Values + 128 and kMxfp4Values + 16 (quant/unpack.h).
__device__ inline NibbleTable iq4_table() {
  return {0x3f2d1801U, 0x766a5d4fU, 0xa6998d81U, 0xf1d9c5b5U};
}
__device__ inline NibbleTable mxfp4_table() {
  return {0x13121110U, 0x1c181614U, 0x0d0e0f10U, 0x04080a0cU};
}

template <DType kType>
struct QuantType;

// ---- Blocks of 32 ----

template <>
struct QuantType<DType::kQ4_0> : TypeBase<4, 2, 32> {
  static constexpr float kBias = 8;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 w = lines.lane_words(Geometry::line(j));
    return {{low_nibbles(w.x), low_nibbles(w.y)}, {high_nibbles(w.x), high_nibbles(w.y)}};
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, j, blocks);
    return {{{half_low(d)}, {half_high(d)}}, {}};
  }
};

template <>
struct QuantType<DType::kQ4_1> : TypeBase<5, 0, 32> {
  static constexpr bool kHasMin = true;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 w = lines.lane_words(Geometry::line(j) + 1);
    return {{low_nibbles(w.x), low_nibbles(w.y)}, {high_nibbles(w.x), high_nibbles(w.y)}};
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    const uint2 w = lines.words(Geometry::line(j));
    return {{{half_low(w.x)}, {half_low(w.y)}}, {{-half_high(w.x)}, {-half_high(w.y)}}};
  }
};

__device__ inline Codes five_bit_codes(const Lines& lines, int first, int c) {
  const uint2 fifth = lines.words(first);
  const uint2 w = lines.lane_words(first + 1);
  return {{low_nibbles(w.x) | spread_to_bit4(fifth.x >> (4 * c)),
           low_nibbles(w.y) | spread_to_bit4(fifth.y >> (4 * c))},
          {high_nibbles(w.x) | spread_to_bit4(fifth.x >> (16 + 4 * c)),
           high_nibbles(w.y) | spread_to_bit4(fifth.y >> (16 + 4 * c))}};
}

template <>
struct QuantType<DType::kQ5_0> : TypeBase<5, 2, 32> {
  static constexpr float kBias = 16;
  __device__ static Codes codes(const Lines& lines, int c, int j) {
    return five_bit_codes(lines, Geometry::line(j), c);
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, j, blocks);
    return {{{half_low(d)}, {half_high(d)}}, {}};
  }
};

template <>
struct QuantType<DType::kQ5_1> : TypeBase<6, 0, 32> {
  static constexpr bool kHasMin = true;
  __device__ static Codes codes(const Lines& lines, int c, int j) {
    return five_bit_codes(lines, Geometry::line(j) + 1, c);
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    const uint2 w = lines.words(Geometry::line(j));
    return {{{half_low(w.x)}, {half_low(w.y)}}, {{-half_high(w.x)}, {-half_high(w.y)}}};
  }
};

template <>
struct QuantType<DType::kQ8_0> : TypeBase<8, 2, 32> {
  static constexpr bool kFullBytes = true;
  static constexpr float kBias = 128;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 low = lines.lane_words(Geometry::line(j));
    const uint2 high = lines.lane_words(Geometry::line(j) + 4);
    constexpr uint32_t kFlip = 0x80808080U;
    return {{low.x ^ kFlip, low.y ^ kFlip}, {high.x ^ kFlip, high.y ^ kFlip}};
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, j, blocks);
    return {{{half_low(d)}, {half_high(d)}}, {}};
  }
};

template <>
struct QuantType<DType::kIQ4_NL> : TypeBase<4, 2, 32> {
  static constexpr bool kFullBytes = true;
  static constexpr float kBias = 128;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 w = lines.lane_words(Geometry::line(j));
    Codes codes;
    iq4_table().look_up(w.x, codes.low[0], codes.high[0]);
    iq4_table().look_up(w.y, codes.low[1], codes.high[1]);
    return codes;
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, j, blocks);
    return {{{half_low(d)}, {half_high(d)}}, {}};
  }
};

template <>
struct QuantType<DType::kMXFP4> : TypeBase<4, 1, 32> {
  static constexpr float kBias = 16;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 w = lines.lane_words(Geometry::line(j));
    Codes codes;
    mxfp4_table().look_up(w.x, codes.low[0], codes.high[0]);
    mxfp4_table().look_up(w.y, codes.low[1], codes.high[1]);
    return codes;
  }
  // Half of 2^(exponent - 127): the values are doubled.
  __device__ static float power(uint32_t exponent) {
    return __uint_as_float(exponent < 2 ? 0x00200000U << exponent : (exponent - 1) << 23);
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t e = lines.short_at(Geometry::rest(j, blocks) + 2 * g);
    return {{{power(e & 255U)}, {power(e >> 8)}}, {}};
  }
};

// ---- Blocks of 256: 32 columns j are a part of the block ----

// Scale and minimum j of Q4_K and Q5_K, whose first four words are | d dmin | scales, 12 bytes |.
__device__ inline Scales six_bit_scales(const Lines& lines, int j) {
  const uint2 d = lines.words(0), a = lines.words(1), b = lines.words(2), last = lines.words(3);
  const auto of_row = [j](uint32_t factors, uint32_t a_word, uint32_t b_word, uint32_t last_word,
                          float& scale, float& min) {
    const int shift = 8 * (j % 4);
    const uint32_t x = a_word >> shift, y = b_word >> shift, z = last_word >> shift;
    const uint32_t s = j < 4 ? x & 63U : (z & 15U) | ((x >> 2) & 48U);
    const uint32_t m = j < 4 ? y & 63U : ((z >> 4) & 15U) | ((y >> 2) & 48U);
    scale = half_low(factors) * static_cast<float>(s);
    min = half_high(factors) * static_cast<float>(m);
  };
  Scales out;
  of_row(d.x, a.x, b.x, last.x, out.scale[0][0], out.min[0][0]);
  of_row(d.y, a.y, b.y, last.y, out.scale[1][0], out.min[1][0]);
  return out;
}

// Four-bit codes of the K-quants from line `first`: a run of eight words for 64 columns.
__device__ inline Codes four_bit_codes(const Lines& lines, int first, int j) {
  const uint2 low = lines.lane_words(first + j / 2 * 8);
  const uint2 high = lines.lane_words(first + j / 2 * 8 + 4);
  const int shift = j % 2 * 4;
  return {{low_nibbles(low.x >> shift), low_nibbles(low.y >> shift)},
          {low_nibbles(high.x >> shift), low_nibbles(high.y >> shift)}};
}

// Adds bit `bit` of the bytes of eight words from line `first`, moved to bit `to`.
__device__ inline void add_bits(Codes& codes, const Lines& lines, int first, int bit, int to) {
  const uint2 low = lines.lane_words(first), high = lines.lane_words(first + 4);
  const auto moved = [bit, to](uint32_t word) { return ((word >> bit) & 0x01010101U) << to; };
  codes.low[0] |= moved(low.x);
  codes.low[1] |= moved(low.y);
  codes.high[0] |= moved(high.x);
  codes.high[1] |= moved(high.y);
}

template <>
struct QuantType<DType::kQ4_K> : TypeBase<36, 0, 256> {
  static constexpr bool kHasMin = true;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    return four_bit_codes(lines, 4, j);
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    return six_bit_scales(lines, j);
  }
};

template <>
struct QuantType<DType::kQ5_K> : TypeBase<44, 0, 256> {
  static constexpr bool kHasMin = true;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    Codes codes = four_bit_codes(lines, 12, j);
    add_bits(codes, lines, 4, j, 4);
    return codes;
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    return six_bit_scales(lines, j);
  }
};

template <>
struct QuantType<DType::kQ6_K> : TypeBase<52, 2, 256> {
  static constexpr int kGroups = 2;
  static constexpr float kBias = 32;
  // Lines: scales 0-3, then sets of twelve (quant::panel_word).
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const int part = j % 4;
    const auto of_set = [&](int set, uint32_t& row0, uint32_t& row1) {
      const int first = 4 + 12 * set;
      const uint2 w = lines.lane_words(first + 4 + part % 2 * 4), h = lines.lane_words(first);
      const auto join = [part](uint32_t nibbles, uint32_t bits) {
        return ((nibbles >> (part / 2 * 4)) & 0x0f0f0f0fU) | ((bits >> (2 * part)) & 0x03030303U)
                                                                 << 4;
      };
      row0 = join(w.x, h.x);
      row1 = join(w.y, h.y);
    };
    Codes codes;
    of_set(j / 4 * 2, codes.low[0], codes.low[1]);
    of_set(j / 4 * 2 + 1, codes.high[0], codes.high[1]);
    return codes;
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, 0, blocks);
    const uint2 w = lines.words(j / 2);
    const auto scale = [j](float factor, uint32_t word, int h) {
      return factor * static_cast<float>(static_cast<int8_t>(byte_of(word, j % 2 * 2 + h)));
    };
    const float d0 = half_low(d), d1 = half_high(d);
    return {{{scale(d0, w.x, 0), scale(d0, w.x, 1)}, {scale(d1, w.y, 0), scale(d1, w.y, 1)}}, {}};
  }
};

// Two-bit codes from line `first`: a run of eight words for 128 columns.
__device__ inline Codes two_bit_codes(const Lines& lines, int first, int j) {
  const uint2 low = lines.lane_words(first + j / 4 * 8);
  const uint2 high = lines.lane_words(first + j / 4 * 8 + 4);
  const int shift = j % 4 * 2;
  constexpr uint32_t kMask = 0x03030303U;
  return {{(low.x >> shift) & kMask, (low.y >> shift) & kMask},
          {(high.x >> shift) & kMask, (high.y >> shift) & kMask}};
}

template <>
struct QuantType<DType::kQ3_K> : TypeBase<27, 2, 256> {
  static constexpr int kGroups = 2;
  static constexpr float kBias = 4;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    Codes codes = two_bit_codes(lines, 8, j);
    add_bits(codes, lines, 0, j, 2);
    return codes;
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int blocks) {
    const uint32_t d = rest_halves(lines, g, 0, blocks);
    // Scale s: four bits from byte s % 8, two from byte 8 + s % 4.
    const uint2 low = lines.words(24 + j % 4 / 2), high = lines.words(26);
    const auto scale = [j](float factor, uint32_t low_word, uint32_t high_word, int h) {
      const int s = 2 * j + h;
      const int four = (byte_of(low_word, s % 4) >> (s / 8 * 4)) & 15;
      const int two = (byte_of(high_word, s % 4) >> (s / 4 * 2)) & 3;
      return factor * static_cast<float>((four | two << 4) - 32);
    };
    const float d0 = half_low(d), d1 = half_high(d);
    return {{{scale(d0, low.x, high.x, 0), scale(d0, low.x, high.x, 1)},
             {scale(d1, low.y, high.y, 0), scale(d1, low.y, high.y, 1)}},
            {}};
  }
};

template <>
struct QuantType<DType::kQ2_K> : TypeBase<21, 0, 256> {
  static constexpr int kGroups = 2;
  static constexpr bool kHasMin = true;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    return two_bit_codes(lines, 4, j);
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    const uint2 d = lines.words(20), w = lines.words(j / 2);
    Scales out;
    for (int h = 0; h < 2; ++h) {
      const int x = byte_of(w.x, j % 2 * 2 + h), y = byte_of(w.y, j % 2 * 2 + h);
      out.scale[0][h] = half_low(d.x) * static_cast<float>(x & 15);
      out.scale[1][h] = half_low(d.y) * static_cast<float>(y & 15);
      out.min[0][h] = half_high(d.x) * static_cast<float>(x >> 4);
      out.min[1][h] = half_high(d.y) * static_cast<float>(y >> 4);
    }
    return out;
  }
};

template <>
struct QuantType<DType::kIQ4_XS> : TypeBase<34, 0, 256> {
  static constexpr bool kFullBytes = true;
  static constexpr float kBias = 128;
  __device__ static Codes codes(const Lines& lines, int, int j) {
    const uint2 w = lines.lane_words(2 + 4 * j);
    Codes codes;
    iq4_table().look_up(w.x, codes.low[0], codes.high[0]);
    iq4_table().look_up(w.y, codes.low[1], codes.high[1]);
    return codes;
  }
  __device__ static Scales scales(const Lines& lines, int g, int j, int) {
    const uint2 d = lines.words(0), low = lines.words(1);
    const auto scale = [j](uint32_t factor, uint32_t low_word) {
      const auto four = (low_word >> (4 * j)) & 15U, two = (factor >> (16 + 2 * j)) & 3U;
      return half_low(factor) * static_cast<float>(static_cast<int>(four | two << 4) - 32);
    };
    return {{{scale(d.x, low.x)}, {scale(d.y, low.y)}}, {}};
  }
};

}  // namespace tandem::cuda
