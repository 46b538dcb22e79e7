// Sixteen virtual lanes of 32 bits in plain C++, each an integer or a pair of int16: the definition
// that the vector instruction sets equal. Integer attention is written once over this vocabulary.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/generic/vec16.h"

namespace tandem::cpu::generic {

struct Ints16 {
  uint32_t lane[16];

  static Ints16 zero() { return {}; }
  static Ints16 load(const void* p) {
    Ints16 result;
    std::memcpy(result.lane, p, sizeof result.lane);
    return result;
  }
  // A pair of int16 in every lane.
  static Ints16 broadcast_pair(const void* p) {
    uint32_t pair;
    std::memcpy(&pair, p, sizeof pair);
    return map([=](int) { return pair; });
  }
  void store(void* p) const { std::memcpy(p, lane, sizeof lane); }
  // The integers, which fit, as int16.
  void store_narrow(void* p) const {
    for (int i = 0; i < 16; ++i) {
      const auto word = static_cast<uint16_t>(lane[i]);
      std::memcpy(static_cast<char*>(p) + 2 * i, &word, sizeof word);
    }
  }

  // sum + both products of the pairs. Overflow wraps: what is not written yet may be anything.
  static Ints16 multiply_pairs(const Ints16& sum, const Ints16& a, const Ints16& b) {
    return map([&](int i) {
      const int32_t first = first_of(a.lane[i]) * first_of(b.lane[i]);
      const int32_t second = second_of(a.lane[i]) * second_of(b.lane[i]);
      return sum.lane[i] + static_cast<uint32_t>(first) + static_cast<uint32_t>(second);
    });
  }
  // Two integers in each lane -> their pair.
  static Ints16 pair(const Ints16& first, const Ints16& second) {
    return map([&](int i) { return (first.lane[i] & 0xffffU) | second.lane[i] << 16; });
  }
  // The pairs of sixteen int16 of two rows.
  static Ints16 load_pairs(const void* first, const void* second) {
    uint16_t a[16], b[16];
    std::memcpy(a, first, sizeof a);
    std::memcpy(b, second, sizeof b);
    return map([&](int i) { return a[i] | static_cast<uint32_t>(b[i]) << 16; });
  }

  // To the nearest, even where two are.
  static Ints16 round(const Vec16& x) {
    return map(
        [&](int i) { return static_cast<uint32_t>(static_cast<int32_t>(std::rint(x.lane[i]))); });
  }
  Vec16 floats() const {
    Vec16 result;
    for (int i = 0; i < 16; ++i) {
      result.lane[i] = static_cast<float>(static_cast<int32_t>(lane[i]));
    }
    return result;
  }

 private:
  template <typename F>
  static Ints16 map(const F& f) {
    Ints16 result;
    for (int i = 0; i < 16; ++i) result.lane[i] = f(i);
    return result;
  }
  static int32_t first_of(uint32_t pair) { return static_cast<int16_t>(pair & 0xffffU); }
  static int32_t second_of(uint32_t pair) { return static_cast<int16_t>(pair >> 16); }
};

}  // namespace tandem::cpu::generic
