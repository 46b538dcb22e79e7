// Sixteen virtual float lanes in plain C++: the definition that the AVX2 and AVX-512 lanes equal
// bit for bit. The float kernels in kernels/cpu/lanes are written once over this vocabulary.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

namespace tandem::cpu::generic {

struct Vec16 {
  // Sums that a kernel keeps in registers at a time.
  static constexpr int kAccumulators = 4;

  float lane[16];

  static Vec16 zero() { return broadcast(0.0F); }
  static Vec16 broadcast(float value) {
    return map([=](int) { return value; });
  }
  static Vec16 load(const float* p) {
    return map([=](int i) { return p[i]; });
  }
  // The first n lanes; the others are 0.
  static Vec16 load_first(const float* p, int n) {
    return map([=](int i) { return i < n ? p[i] : 0.0F; });
  }
  static Vec16 load_f16(const std::byte* p) {
    return map([=](int i) {
      _Float16 half;
      std::memcpy(&half, p + 2 * i, sizeof half);
      return static_cast<float>(half);
    });
  }
  static Vec16 load_bf16(const std::byte* p) {
    return map([=](int i) {
      uint16_t high;
      std::memcpy(&high, p + 2 * i, sizeof high);
      return from_bits(static_cast<uint32_t>(high) << 16);
    });
  }

  void store(float* p) const {
    for (int i = 0; i < 16; ++i) p[i] = lane[i];
  }
  void store_first(float* p, int n) const {
    for (int i = 0; i < n; ++i) p[i] = lane[i];
  }
  void store_f16(std::byte* p) const {
    for (int i = 0; i < 16; ++i) {
      const auto half = static_cast<_Float16>(lane[i]);
      std::memcpy(p + 2 * i, &half, sizeof half);
    }
  }
  // Nearest even on the upper 16 bits. A NaN stays one: its mantissa is never rounded up into an
  // infinity.
  void store_bf16(std::byte* p) const {
    for (int i = 0; i < 16; ++i) {
      const uint32_t bits = to_bits(lane[i]);
      const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
      const uint32_t rounded = is_nan ? bits | 0x00400000U : bits + 0x7fffU + ((bits >> 16) & 1U);
      const auto high = static_cast<uint16_t>(rounded >> 16);
      std::memcpy(p + 2 * i, &high, sizeof high);
    }
  }

  friend Vec16 operator+(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  friend Vec16 operator-(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  friend Vec16 operator*(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  friend Vec16 operator/(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  // a * b + c, rounded once.
  static Vec16 fma(const Vec16& a, const Vec16& b, const Vec16& c) {
    return map([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  // The second operand where either is a NaN, as the vector instructions have it.
  static Vec16 max(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Vec16 min(const Vec16& a, const Vec16& b) {
    return map([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // value where x >= limit, else 0.
  static Vec16 zero_below(const Vec16& x, const Vec16& limit, const Vec16& value) {
    return map([&](int i) { return x.lane[i] >= limit.lane[i] ? value.lane[i] : 0.0F; });
  }
  // Adds the low bits of `shifted` to the exponent of x (see exp in lanes/math.inl.h).
  static Vec16 add_exponent(const Vec16& x, const Vec16& shifted) {
    return map(
        [&](int i) { return from_bits(to_bits(x.lane[i]) + (to_bits(shifted.lane[i]) << 23)); });
  }

  // Pairs of lanes (a, b) with (cos, sin) -> (a cos - b sin, a sin + b cos), each product rounded.
  // With the sign in the sine: GCC 12 makes one fused instruction of alternating differences and
  // sums of products, -ffp-contract=off or not.
  static Vec16 rotate_pairs(const Vec16& x, const Vec16& angles) {
    return map([&](int i) {
      const float cos = angles.lane[i & ~1], sin = angles.lane[i | 1];
      return x.lane[i] * cos + x.lane[i ^ 1] * (i % 2 == 0 ? -sin : sin);
    });
  }

  // rows[i].lane[j] <-> rows[j].lane[i]
  static void transpose(Vec16 (&rows)[16]) {
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < i; ++j) std::swap(rows[i].lane[j], rows[j].lane[i]);
    }
  }

  // The fixed tree: lanes i and i+8, then i and i+4, i and i+2, i and i+1.
  float sum() const {
    float t[8];
    for (int i = 0; i < 8; ++i) t[i] = lane[i] + lane[i + 8];
    for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
    for (int i = 0; i < 2; ++i) t[i] = t[i] + t[i + 2];
    return t[0] + t[1];
  }
  float maximum() const {
    float m = lane[0];
    for (int i = 1; i < 16; ++i) m = lane[i] > m ? lane[i] : m;
    return m;
  }
  // out[0 .. 3] = the sums, or maxima, of a, b, c and d.
  static void store_sums(const Vec16& a, const Vec16& b, const Vec16& c, const Vec16& d,
                         float* out) {
    out[0] = a.sum();
    out[1] = b.sum();
    out[2] = c.sum();
    out[3] = d.sum();
  }
  static void store_maxima(const Vec16& a, const Vec16& b, const Vec16& c, const Vec16& d,
                           float* out) {
    out[0] = a.maximum();
    out[1] = b.maximum();
    out[2] = c.maximum();
    out[3] = d.maximum();
  }

 private:
  template <typename F>
  static Vec16 map(const F& f) {
    Vec16 v;
    for (int i = 0; i < 16; ++i) v.lane[i] = f(i);
    return v;
  }
  static uint32_t to_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
  }
  static float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

}  // namespace tandem::cpu::generic
