// How the codes and scales of the 256-wide types are read from the words of a panel's block
// (quant/panels.h). Included by the avx2, avxvnni and avx512 kernels; Isa keeps their
// instantiations apart. Isa::Words is 16 lanes of 32 bits, lane r of row r.
//
// A type says, for its groups of elements that share a scale,
//   codes<g>(words, c)      four codes a lane: elements 4c .. 4c + 3 of group g, unsigned, or
//   signed
//                           where kSigned
//   scale_bytes<i>(words)   the scales of groups 4i .. 4i + 3, signed where kSignedScales
//   min_bytes<i>(words)     their minima, unsigned, where kMinima
//   kVisit<n>               the group that is multiplied n-th, so that words are read in their
//   order
// and means  value = scale * (code - kOffset),  the minimum apart.
#pragma once

#include "kernels/cpu/x86/load.inl.h"
#include "quant/panels.h"
#include "quant/unpack.h"

namespace tandem::cpu::x86 {

enum class DPlace { kRest, kFirstWord, kLastWord };  // where a block keeps d

// The 6-bit scales and minima of Q4_K and Q5_K: words 1 to 3 of a block.
template <typename Isa>
struct SixBitScales {
  using Words = typename Isa::Words;

  // Bits 7:6 of the bytes to bits 5:4.
  static Words upper_two(Words v) {
    return Isa::bit_and(Isa::template srl16<2>(v), Isa::set8(0x30));
  }
  template <int i>
  static Words scale_bytes(const std::byte* words) {
    const Words a = Isa::load(words + 64);
    if constexpr (i == 0) return Isa::bit_and(a, Isa::set8(0x3f));
    const Words low = Isa::bit_and(Isa::load(words + 3 * 64), Isa::set8(0x0f));
    return Isa::bit_or(low, upper_two(a));
  }
  template <int i>
  static Words min_bytes(const std::byte* words) {
    const Words b = Isa::load(words + 2 * 64);
    if constexpr (i == 0) return Isa::bit_and(b, Isa::set8(0x3f));
    const Words c = Isa::load(words + 3 * 64);
    const Words low = Isa::bit_and(Isa::template srl16<4>(c), Isa::set8(0x0f));
    return Isa::bit_or(low, upper_two(b));
  }
};

template <typename Isa>
struct PanelQ4K : SixBitScales<Isa> {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kQ4_K;
  static constexpr DPlace kD = DPlace::kFirstWord;
  static constexpr int kGroup = 32, kOffset = 0, kHighestCode = 15;
  static constexpr bool kSigned = false, kSignedScales = false, kMinima = true;
  template <int n>
  static constexpr int kVisit = n;

  template <int g>
  static Words codes(const std::byte* words, int c) {
    const Words v = Isa::load(words + (4 + 8 * (g / 2) + c) * 64);
    return Isa::bit_and(Isa::template srl16<4 * (g % 2)>(v), Isa::set8(0x0f));
  }
};

template <typename Isa>
struct PanelQ5K : SixBitScales<Isa> {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kQ5_K;
  static constexpr DPlace kD = DPlace::kFirstWord;
  static constexpr int kGroup = 32, kOffset = 0, kHighestCode = 31;
  static constexpr bool kSigned = false, kSignedScales = false, kMinima = true;
  template <int n>
  static constexpr int kVisit = n;

  template <int g>
  static Words codes(const std::byte* words, int c) {
    const Words v = Isa::load(words + (12 + 8 * (g / 2) + c) * 64);
    const Words fifth = Isa::template shift16<4 - g>(Isa::load(words + (4 + c) * 64));
    return Isa::bit_or(Isa::bit_and(Isa::template srl16<4 * (g % 2)>(v), Isa::set8(0x0f)),
                       Isa::bit_and(fifth, Isa::set8(0x10)));
  }
};

template <typename Isa>
struct PanelQ6K {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kQ6_K;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kGroup = 16, kOffset = 32, kHighestCode = 63;
  static constexpr bool kSigned = false, kSignedScales = true, kMinima = false;

  // The four groups of a high word one after the other.
  template <int n>
  static constexpr int kVisit = 8 * (n / 8) + n % 8 / 4 + 2 * (n % 4);

  template <int i>
  static Words scale_bytes(const std::byte* words) {
    return Isa::load(words + quant::panel_word(kType, 48 + i) * 64);
  }
  template <int g>
  static Words codes(const std::byte* words, int c) {
    constexpr int kHalf = g / 8, kElement = 16 * (g % 8);
    constexpr int kLow = quant::panel_word(kType, 16 * kHalf + kElement % 64 / 4);
    constexpr int kHigh = quant::panel_word(kType, 32 + 8 * kHalf + kElement % 32 / 4);
    const Words low = Isa::template srl16<kElement / 64 * 4>(Isa::load(words + (kLow + c) * 64));
    const Words high =
        Isa::template shift16<4 - kElement / 32 * 2>(Isa::load(words + (kHigh + c) * 64));
    return Isa::bit_or(Isa::bit_and(low, Isa::set8(0x0f)), Isa::bit_and(high, Isa::set8(0x30)));
  }
};

// Two bits a code: four groups of 32 in each byte of a run of 32 bytes.
template <typename Isa, int kFirstWord, int g>
static inline typename Isa::Words two_bits(const std::byte* words, int c) {
  constexpr int kHalf = g / 8, kElement = 16 * (g % 8);
  constexpr int kWord = kFirstWord + 8 * kHalf + kElement % 32 / 4;
  return Isa::bit_and(Isa::template srl16<kElement / 32 * 2>(Isa::load(words + (kWord + c) * 64)),
                      Isa::set8(3));
}

template <typename Isa>
struct PanelQ2K {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kQ2_K;
  static constexpr DPlace kD = DPlace::kLastWord;
  static constexpr int kGroup = 16, kOffset = 0, kHighestCode = 3;
  static constexpr bool kSigned = false, kSignedScales = false, kMinima = true;
  template <int n>
  static constexpr int kVisit = n;

  template <int i>
  static Words scale_bytes(const std::byte* words) {
    return Isa::bit_and(Isa::load(words + i * 64), Isa::set8(0x0f));
  }
  template <int i>
  static Words min_bytes(const std::byte* words) {
    return Isa::bit_and(Isa::template srl16<4>(Isa::load(words + i * 64)), Isa::set8(0x0f));
  }
  template <int g>
  static Words codes(const std::byte* words, int c) {
    return two_bits<Isa, 4, g>(words, c);
  }
};

template <typename Isa>
struct PanelQ3K {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kQ3_K;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kGroup = 16, kOffset = 4, kHighestCode = 7;
  static constexpr bool kSigned = false, kSignedScales = true, kMinima = false;
  template <int n>
  static constexpr int kVisit = n;

  template <int i>
  static Words scale_bytes(const std::byte* words) {
    const Words low = Isa::template srl16<i / 2 * 4>(Isa::load(words + (24 + i % 2) * 64));
    const Words high = Isa::template shift16<4 - 2 * i>(Isa::load(words + 26 * 64));
    const Words six_bits =
        Isa::bit_or(Isa::bit_and(low, Isa::set8(0x0f)), Isa::bit_and(high, Isa::set8(0x30)));
    return Isa::sub8(six_bits, Isa::set8(32));
  }
  template <int g>
  static Words codes(const std::byte* words, int c) {
    const Words third = Isa::template shift16<2 - g / 2>(Isa::load(words + (g % 2 * 4 + c) * 64));
    return Isa::bit_or(two_bits<Isa, 8, g>(words, c), Isa::bit_and(third, Isa::set8(4)));
  }
};

template <typename Isa>
struct PanelIQ4XS {
  using Words = typename Isa::Words;
  static constexpr DType kType = DType::kIQ4_XS;
  static constexpr DPlace kD = DPlace::kFirstWord;
  static constexpr int kGroup = 32, kOffset = 0, kHighestCode = 127;
  static constexpr bool kSigned = true, kSignedScales = true, kMinima = false;
  template <int n>
  static constexpr int kVisit = n;

  template <int i>
  static Words scale_bytes(const std::byte* words) {
    // Four nibbles, then four pairs of bits, spread to a byte each.
    const Words nibbles = Isa::template srl32<16 * i>(Isa::load(words + 64));
    const Words two = spread<8>(Isa::bit_and(nibbles, Isa::set32(0xffff)), 0x00ff00ff);
    const Words low = spread<4>(two, 0x0f0f0f0f);
    const Words pairs = Isa::template srl32<16 + 8 * i>(Isa::load(words));
    const Words half = spread<12>(Isa::bit_and(pairs, Isa::set32(0xff)), 0x000f000f);
    const Words high = Isa::template shift16<4>(spread<6>(half, 0x03030303));
    return Isa::sub8(Isa::bit_or(low, high), Isa::set8(32));
  }
  template <int g>
  static Words codes(const std::byte* words, int c) {
    const Words v = Isa::load(words + (2 + 4 * g + c % 4) * 64);
    const Words nibbles = c < 4 ? v : Isa::template srl16<4>(v);
    return Isa::look_up(quant::kIq4Values, Isa::bit_and(nibbles, Isa::set8(0x0f)));
  }

 private:
  template <int kShift>
  static Words spread(Words v, uint32_t mask) {
    return Isa::bit_and(Isa::bit_or(v, Isa::template sll32<kShift>(v)), Isa::set32(mask));
  }
};

}  // namespace tandem::cpu::x86
