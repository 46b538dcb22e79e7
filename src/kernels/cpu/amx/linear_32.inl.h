// Products of many tokens with panels of 32-wide types.
//
// A block is 32 columns, after which its integer product is rescaled: two tile products, with the
// high and the low operand of the activations, then I = 128 Chi + Clo, and one or two float sums.
// kPanels panels are taken together, kBlocksAtOnce blocks at a time: their blocks are decoded, then
// each tile of tokens meets one panel after the other with its 16 x 16 float sums in registers, so
// that its activations come into L1 once for all panels. (16 tokens of 2048 columns are 64 KB: with
// one panel at a time over all blocks every visit fetched them from L2 again, a line in four
// cycles.) Sums in memory throughout would add a load and a store a row and block, and it is these
// that bound the loop, not the tile unit. Cycles of one block with 16 tokens:
//
//   tile products          2 x 16                                   32
//   vector arithmetic      16 rows x (shift add convert mul fma)/2  40
//   loads, 2 a cycle       A 32, B 8, products 32, scales 16        44
//   stores, 1 a cycle      C 2 x 16                                 32
//
// so that they overlap, a pair of blocks is multiplied while the pair before is rescaled:
//
//   C0, C1 = block b + 2    C2, C3 = block b + 3     (tile unit)
//   rescale block b, store C0 and C1; rescale block b + 1, store C2 and C3
#pragma once

#include <cstring>

#include "kernels/cpu/amx/blocks_32.inl.h"
#include "kernels/cpu/amx/token_tiles.h"
#include "kernels/cpu/kernels.h"
#include "quant/activation.h"
#include "quant/panels.h"

namespace tandem::cpu::amx {

template <typename Type, typename TilesType>
class Linear32 {
 public:
  static void run(const LinearParams& p) {
    const int parts = (p.t + kTokensAtOnce - 1) / kTokensAtOnce;
    const int tokens = (p.t + parts - 1) / parts;
    for (int first = 0; first < p.t; first += tokens) {
      const int begin = first + tokens <= p.t ? first : p.t - tokens;
      Linear32(p, begin, TokenTiles::of(tokens).in_fours()).multiply();
    }
  }

 private:
  // Tokens that share decoded blocks: decoding is 5 % of their work then.
  static constexpr int kTokensAtOnce = 128;
  static constexpr int kTokenTiles = kTokensAtOnce / kTileRows;
  // L1 holds 16 KB of B tiles, 16 KB of a tile's activations, 8 KB of products, 4 KB of scales.
  static constexpr int kPanels = 2;
  static constexpr int kBlocksAtOnce = 16;
  using Block = PanelBlock<Type::kType>;
  using Row = quant::A32Row<const std::byte>;
  using Products = int32_t[2][16][16];  // by high, by low operands

  struct Chunk {  // of the blocks of rows
    int first;
    int blocks;
  };

  // d and sums of a tile's tokens: of row r and block b at r * row + b * block.
  struct Scales {
    const float* d;
    const int32_t* sum;
    int64_t row;
    int64_t block;
  };

  Linear32(const LinearParams& p, int first_token, TokenTiles split)
      : p_(p),
        split_(split),
        blocks_(p.k / 32),
        x_(p.x + first_token * p.x_stride),
        y_(p.y + first_token * p.y_stride),
        row_(quant::a32_row(x_, p.k)),
        tiles_(config(split.rows)) {
    // Rows that round a small tile up to a multiple of four.
    if (split.rows % 4 != 0) std::memset(products_, 0, sizeof products_);
  }

  static TileConfig config(int rows) {
    TileConfig c;
    for (int tile = 0; tile < kTiles; ++tile) {
      c.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : 8);
      c.row_bytes[tile] = tile == 4 || tile == 5 ? 32 : 64;
    }
    return c;
  }

  void multiply() {
    const int panels = (p_.n + quant::kPanelRows - 1) / quant::kPanelRows;
    for (int first = 0; first < panels; first += kPanels) {
      const int count = panels - first < kPanels ? panels - first : kPanels;
      multiply_panels(first, count);
      for (int i = 0; i < count; ++i) store_sums(first + i, i);
    }
  }

  void multiply_panels(int first_panel, int panels) {
    for (int i = 0; i < panels; ++i) {
      for (int r = 0; r < split_.count * 16; ++r) store(sums_[i][r], _mm512_setzero_ps());
    }
    for (int first = 0; first < blocks_; first += kBlocksAtOnce) {
      const Chunk chunk = {first,
                           blocks_ - first < kBlocksAtOnce ? blocks_ - first : kBlocksAtOnce};
      for (int i = 0; i < panels; ++i) decode(p_.w + (first_panel + i) * p_.w_stride, i, chunk);
      for (int tile = 0; tile < split_.count; ++tile) {
        for (int i = 0; i < panels; ++i) {
          if (split_.rows > 12) {
            multiply_tile<16>(tile, i, chunk);
          } else {
            multiply_tile<12>(tile, i, chunk);
          }
        }
      }
    }
  }

  // The blocks of a panel, the i-th of those at hand. What will be decoded a chunk later is
  // fetched: it follows in memory, or is the chunk's part of the panel after those at hand.
  void decode(const std::byte* panel, int i, const Chunk& chunk) {
    const bool last = chunk.first + chunk.blocks == blocks_;
    const int64_t ahead = last ? kPanels * p_.w_stride - chunk.first * int64_t{Block::kWordBytes}
                               : kBlocksAtOnce * int64_t{Block::kWordBytes};
    for (int b = 0; b < chunk.blocks; ++b) {
      const Block block = Block::at(panel, chunk.first + b, blocks_);
      for (int w = 0; w < Block::kWords; ++w) {
        _mm_prefetch(reinterpret_cast<const char*>(block.words + ahead + 64 * w), _MM_HINT_T1);
      }
      Type::factors(block, d_[i][b], m_[i][b]);
      Type::decode(block, b_[i][b]);
    }
  }

  template <int kRows>
  void multiply_tile(int tile, int panel, const Chunk& chunk) {
    const int first_token = split_.first(tile);
    const Scales scales = scales_of(first_token, chunk);
    const int64_t offset = first_token * p_.x_stride + 32 * chunk.first;
    const int8_t* hi = row_.hi + offset;
    const int8_t* lo = row_.lo + offset;
    const int8_t* tiles = b_[panel][0][0];
    float(*const in_memory)[16] = sums_[panel] + tile * 16;
    __m512 sums[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_load_ps(in_memory[r]);

    multiply_first(hi, lo, tiles);
    store_first(products_[0][0]);
    if (chunk.blocks > 1) {
      multiply_second(hi + 32, lo + 32, tiles + sizeof(BTile32));
      store_second(products_[0][1]);
    }
    int parity = 0;
    for (int b = 0; b < chunk.blocks; b += 2, parity ^= 1) {
      const bool first_follows = b + 2 < chunk.blocks;
      const bool second_follows = b + 3 < chunk.blocks;
      const int8_t* following = tiles + (b + 2) * sizeof(BTile32);
      if (first_follows) multiply_first(hi + 32 * (b + 2), lo + 32 * (b + 2), following);
      if (second_follows) {
        multiply_second(hi + 32 * (b + 3), lo + 32 * (b + 3), following + sizeof(BTile32));
      }
      rescale<kRows>(panel, b, products_[parity][0], scales, sums);
      if (first_follows) store_first(products_[parity ^ 1][0]);
      if (b + 1 < chunk.blocks) rescale<kRows>(panel, b + 1, products_[parity][1], scales, sums);
      if (second_follows) store_second(products_[parity ^ 1][1]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) store(in_memory[r], sums[r]);
  }

  [[gnu::always_inline]] void multiply_first(const int8_t* hi, const int8_t* lo, const int8_t* b) {
    tiles_.template zero<0>();
    tiles_.template zero<1>();
    tiles_.template load<6>(b, 64);
    tiles_.template load<4>(hi, p_.x_stride);
    tiles_.template dpbssd<0, 4, 6>();
    tiles_.template load<5>(lo, p_.x_stride);
    tiles_.template dpbssd<1, 5, 6>();
  }
  [[gnu::always_inline]] void multiply_second(const int8_t* hi, const int8_t* lo, const int8_t* b) {
    tiles_.template zero<2>();
    tiles_.template zero<3>();
    tiles_.template load<7>(b, 64);
    tiles_.template load<4>(hi, p_.x_stride);
    tiles_.template dpbssd<2, 4, 7>();
    tiles_.template load<5>(lo, p_.x_stride);
    tiles_.template dpbssd<3, 5, 7>();
  }
  [[gnu::always_inline]] void store_first(Products& out) {
    tiles_.template store<0>(out[0], 64);
    tiles_.template store<1>(out[1], 64);
  }
  [[gnu::always_inline]] void store_second(Products& out) {
    tiles_.template store<2>(out[0], 64);
    tiles_.template store<3>(out[1], 64);
  }

  // Products of a block -> sums, as quant/reference.h defines them.
  template <int kRows>
  [[gnu::always_inline]] void rescale(int panel, int b, const Products& products,
                                      const Scales& scales, __m512 (&sums)[kRows]) {
    const __m512 d = _mm512_load_ps(d_[panel][b]);
    const __m512 m = _mm512_load_ps(m_[panel][b]);
    const float* a_d = scales.d + b * scales.block;
    const int32_t* a_sum = scales.sum + b * scales.block;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i product =
          _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(products[0][r]), 7),
                           _mm512_load_si512(products[1][r]));
      const __m512 da = _mm512_set1_ps(a_d[r * scales.row]);
      sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(d, da), _mm512_cvtepi32_ps(product), sums[r]);
      if constexpr (Type::kMinima) {
        const __m512 a = _mm512_cvtepi32_ps(_mm512_set1_epi32(a_sum[r * scales.row]));
        sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(m, da), a, sums[r]);
      }
    }
  }

  // In the activation rows themselves, or, where a small tile is rounded up to rows that do not
  // exist, in a copy.
  Scales scales_of(int first_token, const Chunk& chunk) {
    const int64_t stride = p_.x_stride / int64_t{sizeof(float)};
    const float* d = row_.d + first_token * stride + chunk.first;
    const int32_t* sum = row_.sum + first_token * stride + chunk.first;
    if (split_.rows % 4 == 0) return {d, sum, stride, 1};
    if (copied_ != chunk.first) {
      copied_ = chunk.first;
      for (int b = 0; b < chunk.blocks; ++b) {
        for (int r = 0; r < 16; ++r) {
          a_d_[b][r] = r < split_.rows ? d[r * stride + b] : 0.0F;
          a_sum_[b][r] = r < split_.rows ? sum[r * stride + b] : 0;
        }
      }
    }
    return {a_d_[0], a_sum_[0], 1, 16};
  }

  // Of the i-th panel at hand.
  void store_sums(int panel, int i) {
    const int columns = p_.n - panel * quant::kPanelRows;
    const auto mask =
        static_cast<__mmask16>(columns >= quant::kPanelRows ? 0xffffU : (1U << columns) - 1U);
    for (int tile = 0; tile < split_.count; ++tile) {
      float* y = y_ + split_.first(tile) * p_.y_stride + panel * quant::kPanelRows;
      for (int r = 0; r < split_.rows; ++r) {
        _mm512_mask_storeu_ps(y + r * p_.y_stride, mask, _mm512_load_ps(sums_[i][tile * 16 + r]));
      }
    }
  }

  const LinearParams& p_;
  const TokenTiles split_;
  const int blocks_;
  const std::byte* const x_;  // of the first token
  float* const y_;
  const Row row_;  // of the first token
  alignas(64) BTile32 b_[kPanels][kBlocksAtOnce];
  alignas(64) float d_[kPanels][kBlocksAtOnce][16];
  alignas(64) float m_[kPanels][kBlocksAtOnce][16];
  int copied_ = -1;  // first block of what a_d_ and a_sum_ hold
  alignas(64) float a_d_[kBlocksAtOnce][16];
  alignas(64) int32_t a_sum_[kBlocksAtOnce][16];
  alignas(64) Products products_[2][2];  // parity, block of the pair
  alignas(64) float sums_[kPanels][kTokenTiles * 16][16];
  TilesType tiles_;
};

}  // namespace tandem::cpu::amx
