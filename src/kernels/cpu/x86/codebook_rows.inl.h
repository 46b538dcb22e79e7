// Products of rows of the codebook types with quantised activations, straight from the file's row
// layout: their indices do not split into words, so they are not packed into panels
// (quant/panels.h). Four rows advance together, block by block: they are the lanes of the float
// updates, share the loads of activations and hide each other's latency. Their blocks are decoded
// once and then multiplied with every token of a tile. Only the integer multiply-add differs
// between instruction sets:
//   Isa::multiply_add(acc, a, b): acc + a . b (adjacent int16 pairs), in int32.
#pragma once

#include "kernels/cpu/kernels.h"
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
static inline __m256i pair_products(__m256i q, __m256i a) {
  return _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
}

template <typename Isa>
static inline __m256i block_products(const Decoded256& w, const int8_t* a) {
  __m256i products = _mm256_setzero_si256();
  for (int j = 0; j < 8; ++j) {
    products = Isa::multiply_add(products, pair_products(w.q[j], load32(a + 32 * j)), w.scale[j]);
  }
  return products;
}

// Asks for the cache lines of [p, p + bytes); that they exist does not matter. Without it the
// hardware follows four short interleaved streams badly.
static inline void prefetch(const std::byte* p, int bytes) {
  for (int i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T0);
  }
}

// acc[t]: the products of four rows with token t. `next`: the four rows after these.
template <typename Isa, typename Block>
static inline void multiply_rows(const std::byte* const* w, const std::byte* next, int blocks,
                                 const quant::A256Row<const std::byte>* x, int tokens,
                                 __m128* acc) {
  const Block* b[kRows];
  for (int r = 0; r < kRows; ++r) b[r] = reinterpret_cast<const Block*>(w[r]);
  for (int t = 0; t < tokens; ++t) acc[t] = _mm_setzero_ps();
  for (int block = 0; block < blocks; ++block) {
    const __m128 factors = DecodeCodebook<Isa>::factors(b);
    constexpr int kBytes = kRows * static_cast<int>(sizeof(Block));
    prefetch(next + int64_t{block} * kBytes, kBytes);  // rows lie one after the other
    Decoded256 rows[kRows];
    for (int r = 0; r < kRows; ++r) DecodeCodebook<Isa>::decode(*b[r]++, rows[r]);
    for (int t = 0; t < tokens; ++t) {
      const int8_t* a = x[t].q + 256 * block;
      __m256i products[kRows];
      for (int r = 0; r < kRows; ++r) products[r] = block_products<Isa>(rows[r], a);
      acc[t] = _mm_fmadd_ps(_mm_mul_ps(factors, _mm_set1_ps(x[t].d[block])),
                            _mm_cvtepi32_ps(sum_lanes(products)), acc[t]);
    }
  }
}

template <typename Isa, DType kType>
static void linear_rows(const LinearParams& p) {
  using Block = typename quant::BlockOf<kType>::Type;
  const int blocks = p.k / 256;
  for (int first = 0; first < p.t; first += kTokenTile) {
    const int tokens = p.t - first < kTokenTile ? p.t - first : kTokenTile;
    quant::A256Row<const std::byte> x[kTokenTile];
    for (int t = 0; t < tokens; ++t) {
      const int64_t row = p.x_rows != nullptr ? p.x_rows[first + t] : first + t;
      x[t] = quant::a256_row(p.x + row * p.x_stride, p.k);
    }
    for (int n = 0; n < p.n; n += kRows) {
      // Beyond the last row the last one stands in.
      const int rows = p.n - n < kRows ? p.n - n : kRows;
      const std::byte* w[kRows];
      for (int r = 0; r < kRows; ++r) w[r] = p.w + (n + (r < rows ? r : rows - 1)) * p.w_stride;
      __m128 acc[kTokenTile];
      multiply_rows<Isa, Block>(w, p.w + (n + kRows) * p.w_stride, blocks, x, tokens, acc);
      for (int t = 0; t < tokens; ++t) {
        float* y = p.y + (first + t) * p.y_stride + n;
        alignas(16) float lanes[kRows];
        _mm_store_ps(lanes, acc[t]);
        for (int r = 0; r < rows; ++r) y[r] = lanes[r];
      }
    }
  }
}

// The kernel of a codebook type, null for others.
template <typename Isa>
static LinearFn codebook_kernel(DType dtype) {
  switch (dtype) {
    case DType::kIQ3_S:
      return linear_rows<Isa, DType::kIQ3_S>;
    case DType::kIQ3_XXS:
      return linear_rows<Isa, DType::kIQ3_XXS>;
    case DType::kIQ2_S:
      return linear_rows<Isa, DType::kIQ2_S>;
    case DType::kIQ2_XS:
      return linear_rows<Isa, DType::kIQ2_XS>;
    case DType::kIQ2_XXS:
      return linear_rows<Isa, DType::kIQ2_XXS>;
    case DType::kIQ1_S:
      return linear_rows<Isa, DType::kIQ1_S>;
    case DType::kIQ1_M:
      return linear_rows<Isa, DType::kIQ1_M>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::x86
