// The operations of panels.inl.h on pairs of 256-bit vectors, but for the products of codes with
// activations, in which AVX2 and AVX-VNNI differ. Tag keeps their instantiations apart.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

namespace tandem::cpu::x86 {

template <typename Tag>
struct Isa256 {
  struct Words {
    __m256i half[2];  // rows 0-7, rows 8-15
  };
  using Ints = Words;
  struct Floats {
    __m256 half[2];
  };

  // f(half) of each half.
  template <typename F, typename... Args>
  [[gnu::always_inline]] static Words each(const F& f, const Args&... args) {
    return {{f(args.half[0]...), f(args.half[1]...)}};
  }
  template <typename F, typename... Args>
  [[gnu::always_inline]] static Floats each_float(const F& f, const Args&... args) {
    return {{f(args.half[0]...), f(args.half[1]...)}};
  }
  static Words both(__m256i v) { return {{v, v}}; }

  static Words load(const void* p) {
    const auto* halves = static_cast<const __m256i*>(p);
    return {{_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)}};
  }
  static Words set8(int v) { return both(_mm256_set1_epi8(static_cast<char>(v))); }
  static Words set32(uint32_t v) { return both(_mm256_set1_epi32(static_cast<int>(v))); }
  static Words bit_and(Words a, Words b) {
    return each([](__m256i x, __m256i y) { return _mm256_and_si256(x, y); }, a, b);
  }
  static Words bit_or(Words a, Words b) {
    return each([](__m256i x, __m256i y) { return _mm256_or_si256(x, y); }, a, b);
  }
  static Words sub8(Words a, Words b) {
    return each([](__m256i x, __m256i y) { return _mm256_sub_epi8(x, y); }, a, b);
  }
  template <int n>
  static Words srl16(Words v) {
    if constexpr (n == 0) return v;
    return each([](__m256i x) { return _mm256_srli_epi16(x, n); }, v);
  }
  // Left by n, or right by -n.
  template <int n>
  static Words shift16(Words v) {
    if constexpr (n > 0) return each([](__m256i x) { return _mm256_slli_epi16(x, n); }, v);
    return srl16<-n>(v);
  }
  template <int n>
  static Words srl32(Words v) {
    return each([](__m256i x) { return _mm256_srli_epi32(x, n); }, v);
  }
  template <int n>
  static Words sll32(Words v) {
    return each([](__m256i x) { return _mm256_slli_epi32(x, n); }, v);
  }

  // A table of 16 signed values at each byte's index.
  static Words signed_look_up(const int8_t* values, int raise, Words indices) {
    const __m256i table = _mm256_xor_si256(
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values))),
        _mm256_set1_epi8(static_cast<char>(raise)));
    return each([&](__m256i x) { return _mm256_shuffle_epi8(table, x); }, indices);
  }
  // Adds 16 to byte i of the codes of column c where bit 4c + i of the lane of `bits` is set.
  static Words set_bit_4(Words codes, Words bits, int c) {
    const __m256i pick =
        _mm256_add_epi8(_mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12,  //
                                         0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                        _mm256_set1_epi8(static_cast<char>(c / 2)));
    const __m256i bit = _mm256_set1_epi32(c % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010U));
    const __m256i sixteen = _mm256_set1_epi8(16);
    return each(
        [&](__m256i code, __m256i word) {
          const __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(word, pick), bit);
          return _mm256_or_si256(code, _mm256_and_si256(_mm256_cmpeq_epi8(spread, bit), sixteen));
        },
        codes, bits);
  }

  template <bool kSigned>
  static Words even_bytes(Words v) {
    return each(
        [](__m256i x) {
          if constexpr (kSigned) return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
          return _mm256_and_si256(x, _mm256_set1_epi16(0xff));
        },
        v);
  }
  template <bool kSigned>
  static Words odd_bytes(Words v) {
    return each(
        [](__m256i x) {
          if constexpr (kSigned) return _mm256_srai_epi16(x, 8);
          return _mm256_srli_epi16(x, 8);
        },
        v);
  }
  // Byte j of each lane as int32.
  template <int j, bool kSigned>
  static Ints byte_as_int(Words bytes) {
    return each(
        [](__m256i x) {
          if constexpr (kSigned) return _mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * j), 24);
          return _mm256_and_si256(_mm256_srli_epi32(x, 8 * j), _mm256_set1_epi32(0xff));
        },
        bytes);
  }

  static Ints zero_ints() { return both(_mm256_setzero_si256()); }
  static Ints set_int(int32_t v) { return both(_mm256_set1_epi32(v)); }
  static __m256i broadcast(const void* p) {
    int32_t v;
    std::memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
  }
  static Ints broadcast32(const void* p) { return both(broadcast(p)); }
  static Ints add(Ints a, Ints b) {
    return each([](__m256i x, __m256i y) { return _mm256_add_epi32(x, y); }, a, b);
  }
  static Ints multiply_add16(Ints acc, Words a, Ints b) {
    return each([](__m256i sum, __m256i x,
                   __m256i y) { return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y)); },
                acc, a, b);
  }
  // -v * factor, a power of two.
  static Ints negative_times(Ints v, uint32_t factor) {
    const int shift = std::countr_zero(factor);
    return each(
        [&](__m256i x) {
          return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(x, shift));
        },
        v);
  }

  static Floats zero_floats() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
  static Floats broadcast_float(const float* p) {
    return {{_mm256_broadcast_ss(p), _mm256_broadcast_ss(p)}};
  }
  static Floats to_floats(Ints v) {
    return each_float([](__m256i x) { return _mm256_cvtepi32_ps(x); }, v);
  }
  static Floats multiply(Floats a, Floats b) {
    return each_float([](__m256 x, __m256 y) { return _mm256_mul_ps(x, y); }, a, b);
  }
  static Floats fma(Floats a, Floats b, Floats c) {
    return each_float([](__m256 x, __m256 y, __m256 z) { return _mm256_fmadd_ps(x, y, z); }, a, b,
                      c);
  }
  static Floats fnma(Floats a, Floats b, Floats c) {
    return each_float([](__m256 x, __m256 y, __m256 z) { return _mm256_fnmadd_ps(x, y, z); }, a, b,
                      c);
  }
  static Floats load_halves(const std::byte* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {
        {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))}};
  }
  static Floats low_halves(Words v) {
    return each_float(
        [](__m256i x) {
          const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
          const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
          return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
        },
        v);
  }
  static Floats high_halves(Words v) { return low_halves(srl32<16>(v)); }
  // 2^(e - 128) of 16 bytes e.
  static Floats load_mxfp4_scales(const std::byte* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const Words e = {{_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))}};
    return each_float(
        [](__m256i x) {
          const __m256i one = _mm256_set1_epi32(1);
          const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(x, one), 23);
          const __m256i denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), x);
          return _mm256_castsi256_ps(
              _mm256_blendv_epi8(denormal, normal, _mm256_cmpgt_epi32(x, one)));
        },
        e);
  }
  static void store_first(float* p, Floats v, int n) {
    if (n == 16) {
      _mm256_storeu_ps(p, v.half[0]);
      _mm256_storeu_ps(p + 8, v.half[1]);
      return;
    }
    alignas(32) float lanes[16];
    _mm256_store_ps(lanes, v.half[0]);
    _mm256_store_ps(lanes + 8, v.half[1]);
    std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(float));
  }
};

}  // namespace tandem::cpu::x86
