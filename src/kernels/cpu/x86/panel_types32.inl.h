// How the codes of the 32-wide types are read from the words of a panel's block (quant/panels.h),
// in the terms of panel_types256.inl.h: one group, no scales of its own; value = code - kOffset.
#pragma once

#include "kernels/cpu/x86/panel_types256.inl.h"

namespace tandem::cpu::x86 {

// Four bits a code, 16 bytes: element l in the lower half of byte l, element l + 16 in the upper.
template <typename Isa, int kFirstWord>
static inline typename Isa::Words nibbles(const std::byte* words, int c) {
  const typename Isa::Words v = Isa::load(words + (kFirstWord + c % 4) * 64);
  return Isa::bit_and(c < 4 ? v : Isa::template srl16<4>(v), Isa::set8(0x0f));
}

// With fifth bits in a word before the codes: bit l of it belongs to element l.
template <typename Isa, int kFirstWord>
static inline typename Isa::Words five_bits(const std::byte* words, int c) {
  const typename Isa::Words fifth = Isa::load(words + (kFirstWord - 1) * 64);
  return Isa::set_bit_4(nibbles<Isa, kFirstWord>(words, c), fifth, c);
}

template <typename Isa>
struct PanelQ4_0 {
  static constexpr DType kType = DType::kQ4_0;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kOffset = 8, kHighestCode = 15;
  static constexpr bool kSigned = false, kMinima = false;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return nibbles<Isa, 0>(words, c);
  }
};

template <typename Isa>
struct PanelQ4_1 {
  static constexpr DType kType = DType::kQ4_1;
  static constexpr DPlace kD = DPlace::kFirstWord;
  static constexpr int kOffset = 0, kHighestCode = 15;
  static constexpr bool kSigned = false, kMinima = true;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return nibbles<Isa, 1>(words, c);
  }
};

template <typename Isa>
struct PanelQ5_0 {
  static constexpr DType kType = DType::kQ5_0;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kOffset = 16, kHighestCode = 31;
  static constexpr bool kSigned = false, kMinima = false;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return five_bits<Isa, 1>(words, c);
  }
};

template <typename Isa>
struct PanelQ5_1 {
  static constexpr DType kType = DType::kQ5_1;
  static constexpr DPlace kD = DPlace::kFirstWord;
  static constexpr int kOffset = 0, kHighestCode = 31;
  static constexpr bool kSigned = false, kMinima = true;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return five_bits<Isa, 2>(words, c);
  }
};

template <typename Isa>
struct PanelQ8_0 {
  static constexpr DType kType = DType::kQ8_0;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kOffset = 0, kHighestCode = 128;
  static constexpr bool kSigned = true, kMinima = false;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return Isa::signed_operand(Isa::load(words + c * 64));
  }
};

template <typename Isa>
struct PanelIQ4NL {
  static constexpr DType kType = DType::kIQ4_NL;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kOffset = 0, kHighestCode = 127;
  static constexpr bool kSigned = true, kMinima = false;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return Isa::look_up(quant::kIq4Values, nibbles<Isa, 0>(words, c));
  }
};

template <typename Isa>
struct PanelMXFP4 {
  static constexpr DType kType = DType::kMXFP4;
  static constexpr DPlace kD = DPlace::kRest;
  static constexpr int kOffset = 0, kHighestCode = 12;
  static constexpr bool kSigned = true, kMinima = false;
  static typename Isa::Words codes(const std::byte* words, int c) {
    return Isa::look_up(quant::kMxfp4Values, nibbles<Isa, 0>(words, c));
  }
};

}  // namespace tandem::cpu::x86
