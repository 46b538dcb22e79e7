// Products of quantised rows with quantised activations, straight from the file's row layout. Four
// rows advance together, block by block: they are the lanes of the float updates, share the loads
// of activations and hide each other's latency. Their blocks are decoded once and then multiplied
// with every token of a tile. Only the integer multiply-add differs between instruction sets:
//   Isa::multiply_add(acc, a, b): acc + a . b (adjacent int16 pairs), in int32.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/x86/decode256.inl.h"
#include "kernels/cpu/x86/decode32.inl.h"
#include "kernels/cpu/x86/decode_codebook.inl.h"
#include "quant/activation.h"

namespace tandem::cpu::x86 {

inline constexpr int kRows = 4;

// Tokens that share one decoding of a block. Their rows of activations should stay in the
// first-level cache as far as possible.
inline constexpr int kTokenTile = 16;

// The sum of each vector's eight lanes, row r in lane r.
static inline __m128i sum_lanes(const __m256i (&v)[kRows]) {
  const __m256i first =
      _mm256_add_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
  const __m256i second =
      _mm256_add_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
  const __m256i all =
      _mm256_add_epi32(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second));
  return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

// 16 int16 sums of adjacent products. |q| <= 128 and |a| <= 127, so two products stay below 2^15.
template <Codes kCodes>
static inline __m256i pair_products(__m256i q, __m256i a) {
  if constexpr (kCodes == Codes::kSigned) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
  } else {
    return _mm256_maddubs_epi16(q, a);
  }
}

// Integer products of four rows' blocks with a token's, before the sum over lanes.
struct Sums {
  __m256i products[kRows];
  __m256i minima[kRows];  // of 256-wide types with minima
};

// The 256-wide types. Decode has the type's decode(block, out) and factors(blocks).
template <typename Isa, typename BlockType, typename Decode, Codes kCodes>
struct Wide256 {
  using Block = BlockType;
  using Decoded = Decoded256;
  using Activation = quant::BlockA256;
  static constexpr int kElements = 256;

  struct Operand {
    const Activation& x;
  };
  static Operand operand(const Activation& x) { return {x}; }

  static void decode(const Block& b, Decoded& out) { Decode::decode(b, out); }

  static void multiply(const Decoded& w, const Operand& a, int r, Sums& sums) {
    __m256i products = _mm256_setzero_si256();
    for (int j = 0; j < 8; ++j) {
      products = Isa::multiply_add(products, pair_products<kCodes>(w.q[j], load32(a.x.q + 32 * j)),
                                   w.scale[j]);
    }
    if constexpr (kCodes != Codes::kSigned) {
      const __m256i minima = _mm256_madd_epi16(w.minima, load32(a.x.sum));
      if constexpr (kCodes == Codes::kOffset) {
        products = _mm256_sub_epi32(products, minima);
      } else {
        sums.minima[r] = minima;
      }
    }
    sums.products[r] = products;
  }

  static Factors factors(const Block* const* b) { return Decode::factors(b); }

  static __m128 update(const Sums& sums, const Factors& f, const Activation& x, __m128 acc) {
    const __m128 d = _mm_set1_ps(x.d);
    acc = _mm_fmadd_ps(_mm_mul_ps(f.d, d), _mm_cvtepi32_ps(sum_lanes(sums.products)), acc);
    if constexpr (kCodes == Codes::kUnsigned) {
      acc = _mm_fnmadd_ps(_mm_mul_ps(f.minimum, d), _mm_cvtepi32_ps(sum_lanes(sums.minima)), acc);
    }
    return acc;
  }
};

// The 32-wide types.
template <typename Isa, typename BlockType, bool kMinima>
struct Wide32 {
  using Block = BlockType;
  using Decoded = Decoded32;
  using Activation = quant::BlockA32;
  static constexpr int kElements = 32;

  struct Operand {
    __m256i first, second;  // 16 int16 each
  };
  static Operand operand(const Activation& x) {
    return {_mm256_add_epi16(_mm256_slli_epi16(_mm256_cvtepi8_epi16(load16(x.hi)), 7),
                             _mm256_cvtepi8_epi16(load16(x.lo))),
            _mm256_add_epi16(_mm256_slli_epi16(_mm256_cvtepi8_epi16(load16(x.hi + 16)), 7),
                             _mm256_cvtepi8_epi16(load16(x.lo + 16)))};
  }

  static void decode(const Block& b, Decoded& out) { Decode32<Isa>::decode(b, out); }

  static void multiply(const Decoded& w, const Operand& a, int r, Sums& sums) {
    sums.products[r] = Isa::multiply_add(_mm256_madd_epi16(w.q[0], a.first), w.q[1], a.second);
  }

  static Factors factors(const Block* const* b) { return Decode32<Isa>::factors(b); }

  static __m128 update(const Sums& sums, const Factors& f, const Activation& x, __m128 acc) {
    const __m128 d = _mm_set1_ps(x.d);
    acc = _mm_fmadd_ps(_mm_mul_ps(f.d, d), _mm_cvtepi32_ps(sum_lanes(sums.products)), acc);
    if constexpr (kMinima) {
      const __m128 sum = _mm_set1_ps(static_cast<float>(x.sum));
      acc = _mm_fmadd_ps(_mm_mul_ps(f.minimum, d), sum, acc);
    }
    return acc;
  }
};

// Asks for the cache lines of [p, p + bytes); that they exist does not matter. Without it the
// hardware follows four short interleaved streams badly: Q4_K 6 GB/s instead of 11, Q6_K 4 instead
// of 15 (one core of an EPYC "Milan", one token, weights in memory).
static inline void prefetch(const std::byte* p, int bytes) {
  for (int i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T0);
  }
}

// acc[t]: the products of four rows with token t. `next`: the four rows after these. A single
// token's blocks are multiplied as they are decoded; for more, the decoded blocks wait in memory.
template <typename Wide, bool kOneToken>
static inline void multiply_rows(const std::byte* const* w, const std::byte* next, int blocks,
                                 const typename Wide::Activation* const* x, int tokens,
                                 __m128* acc) {
  using Block = typename Wide::Block;
  const Block* b[kRows];
  for (int r = 0; r < kRows; ++r) b[r] = reinterpret_cast<const Block*>(w[r]);
  for (int t = 0; t < tokens; ++t) acc[t] = _mm_setzero_ps();
  for (int block = 0; block < blocks; ++block) {
    typename Wide::Decoded rows[kOneToken ? 1 : kRows];
    Sums sums;
    const Factors factors = Wide::factors(b);
    constexpr int kBytes = kRows * static_cast<int>(sizeof(Block));
    prefetch(next + int64_t{block} * kBytes, kBytes);  // rows lie one after the other
    if constexpr (kOneToken) {
      const auto a = Wide::operand(x[0][block]);
      for (int r = 0; r < kRows; ++r) {
        Wide::decode(*b[r]++, rows[0]);
        Wide::multiply(rows[0], a, r, sums);
      }
      acc[0] = Wide::update(sums, factors, x[0][block], acc[0]);
    } else {
      for (int r = 0; r < kRows; ++r) Wide::decode(*b[r]++, rows[r]);
      for (int t = 0; t < tokens; ++t) {
        const auto a = Wide::operand(x[t][block]);
        for (int r = 0; r < kRows; ++r) Wide::multiply(rows[r], a, r, sums);
        acc[t] = Wide::update(sums, factors, x[t][block], acc[t]);
      }
    }
  }
}

template <typename Wide>
static void linear(const LinearParams& p) {
  using Activation = typename Wide::Activation;
  const int blocks = p.k / Wide::kElements;
  for (int first = 0; first < p.t; first += kTokenTile) {
    const int tokens = p.t - first < kTokenTile ? p.t - first : kTokenTile;
    const Activation* x[kTokenTile];
    for (int t = 0; t < tokens; ++t) {
      const int64_t row = p.x_rows != nullptr ? p.x_rows[first + t] : first + t;
      x[t] = reinterpret_cast<const Activation*>(p.x + row * p.x_stride);
    }
    for (int n = 0; n < p.n; n += kRows) {
      // Beyond the last row the last one stands in.
      const int rows = p.n - n < kRows ? p.n - n : kRows;
      const std::byte* w[kRows];
      for (int r = 0; r < kRows; ++r) w[r] = p.w + (n + (r < rows ? r : rows - 1)) * p.w_stride;
      const std::byte* next = p.w + (n + kRows) * p.w_stride;
      __m128 acc[kTokenTile];
      if (tokens == 1) {
        multiply_rows<Wide, true>(w, next, blocks, x, 1, acc);
      } else {
        multiply_rows<Wide, false>(w, next, blocks, x, tokens, acc);
      }
      for (int t = 0; t < tokens; ++t) {
        float* y = p.y + (first + t) * p.y_stride + n;
        alignas(16) float lanes[kRows];
        _mm_store_ps(lanes, acc[t]);
        for (int r = 0; r < rows; ++r) y[r] = lanes[r];
      }
    }
  }
}

template <typename Isa, DType kType, bool kMinima = false>
using Linear32 = Wide32<Isa, typename quant::BlockOf<kType>::Type, kMinima>;
template <typename Isa, DType kType, Codes kCodes>
using LinearK = Wide256<Isa, typename quant::BlockOf<kType>::Type, DecodeK<Isa>, kCodes>;
template <typename Isa, DType kType>
using LinearCodebook =
    Wide256<Isa, typename quant::BlockOf<kType>::Type, DecodeCodebook<Isa>, Codes::kSigned>;

// The kernel of a quantised type, null for others.
template <typename Isa>
static LinearFn quantised_kernel(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return linear<Linear32<Isa, DType::kQ4_0>>;
    case DType::kQ4_1:
      return linear<Linear32<Isa, DType::kQ4_1, true>>;
    case DType::kQ5_0:
      return linear<Linear32<Isa, DType::kQ5_0>>;
    case DType::kQ5_1:
      return linear<Linear32<Isa, DType::kQ5_1, true>>;
    case DType::kQ8_0:
      return linear<Linear32<Isa, DType::kQ8_0>>;
    case DType::kIQ4_NL:
      return linear<Linear32<Isa, DType::kIQ4_NL>>;
    case DType::kMXFP4:
      return linear<Linear32<Isa, DType::kMXFP4>>;
    case DType::kQ2_K:
      return linear<LinearK<Isa, DType::kQ2_K, Codes::kUnsigned>>;
    case DType::kQ3_K:
      return linear<LinearK<Isa, DType::kQ3_K, Codes::kOffset>>;
    case DType::kQ4_K:
      return linear<LinearK<Isa, DType::kQ4_K, Codes::kUnsigned>>;
    case DType::kQ5_K:
      return linear<LinearK<Isa, DType::kQ5_K, Codes::kUnsigned>>;
    case DType::kQ6_K:
      return linear<LinearK<Isa, DType::kQ6_K, Codes::kOffset>>;
    case DType::kIQ4_XS:
      return linear<LinearK<Isa, DType::kIQ4_XS, Codes::kSigned>>;
    case DType::kIQ3_S:
      return linear<LinearCodebook<Isa, DType::kIQ3_S>>;
    case DType::kIQ3_XXS:
      return linear<LinearCodebook<Isa, DType::kIQ3_XXS>>;
    case DType::kIQ2_S:
      return linear<LinearCodebook<Isa, DType::kIQ2_S>>;
    case DType::kIQ2_XS:
      return linear<LinearCodebook<Isa, DType::kIQ2_XS>>;
    case DType::kIQ2_XXS:
      return linear<LinearCodebook<Isa, DType::kIQ2_XXS>>;
    case DType::kIQ1_S:
      return linear<LinearCodebook<Isa, DType::kIQ1_S>>;
    case DType::kIQ1_M:
      return linear<LinearCodebook<Isa, DType::kIQ1_M>>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::x86
