// Products of many tokens with panels of 256-wide types.
//
// For two panels at a time, block after block: a panel's block is decoded into B tiles once and
// meets all tokens (at most kTokensAtOnce); its integer products are rescaled into float sums that
// stay in L1. The work of a group, two tiles of tokens, is laid out so that the tile unit and the
// vector units run at once: between the tile products of its steps stand the rescaling of the
// group before and, in the first group of a block, the decoding of the step's columns.
//
//   step 0                   step 1                   ...   end of the group
//   decode columns 0-63      decode columns 64-127          C tiles -> products_[parity]
//   B, A tiles, products     B, A tiles, products
//   rescale 1/4 of the       rescale 1/4
//     group before
//
// Tile registers: C of token tile i and operand o in 2i + o, A in 4 and 5, B in 6 and 7: four loads
// for four products. No other split of eight registers loads less.
#pragma once

#include "kernels/cpu/amx/super_blocks.inl.h"
#include "kernels/cpu/amx/token_tiles.h"
#include "kernels/cpu/kernels.h"
#include "quant/activation.h"
#include "quant/panels.h"

namespace tandem::cpu::amx {

// Tokens that share a decoded block. What they touch for two panels' block stays in an L1 cache of
// 48 KB: 16 KB of activations, 8 KB of B tiles, 8 KB of products, 8 KB of sums.
inline constexpr int kTokensAtOnce = 64;

template <typename Type, typename TilesType>
class Linear256 {
 public:
  static void run(const LinearParams& p) {
    const int parts = (p.t + kTokensAtOnce - 1) / kTokensAtOnce;
    const int tokens = (p.t + parts - 1) / parts;
    for (int first = 0; first < p.t; first += tokens) {
      // The last part begins earlier, too: it has no fewer tokens, hence the same tiles.
      const int begin = first + tokens <= p.t ? first : p.t - tokens;
      Linear256(p, begin, TokenTiles::of(tokens)).multiply();
    }
  }

 private:
  static constexpr int kOperands = Type::kOperands;
  static constexpr int kPanels =
      2;  // at a time, so that activations are fetched to L1 once for both
  using Block = PanelBlock<Type::kType>;
  using Row = quant::A256Row<const std::byte>;

  // One or two tiles of tokens with one block of one panel.
  struct Group {
    int first_tile;
    int tiles;  // 0: there is none
    int panel;
    int block;
    int parity;
    const Factors* factors;
  };

  Linear256(const LinearParams& p, int first_token, TokenTiles split)
      : p_(p),
        split_(split),
        blocks_(p.k / 256),
        x_(p.x + first_token * p.x_stride),
        y_(p.y + first_token * p.y_stride),
        row_(quant::a256_row(x_, p.k)),
        tiles_(config(split.rows)) {}

  static TileConfig config(int rows) {
    TileConfig c;
    for (int tile = 0; tile < kTiles; ++tile) {
      c.rows[tile] = static_cast<uint8_t>(tile < 6 ? rows : 16);
      c.row_bytes[tile] = 64;
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
    clear_sums(panels);
    Group before = {};
    int parity = 0;
    for (int b = 0; b < blocks_; ++b) {
      for (int i = 0; i < panels; ++i) {
        const std::byte* panel = p_.w + (first_panel + i) * p_.w_stride;
        const Block block = Block::at(panel, b, blocks_);
        Factors& factors = factors_[(b * panels + i) % 2];
        Type::scales(block, scales_, factors);
        for (int tile = 0; tile < split_.count; tile += 2) {
          const int tiles = split_.count - tile < 2 ? 1 : 2;
          const Group group = {tile, tiles, i, b, parity, &factors};
          if (tile == 0) {
            tiles == 2 ? run_group<true, 2>(block, group, before)
                       : run_group<true, 1>(block, group, before);
          } else {
            tiles == 2 ? run_group<false, 2>(block, group, before)
                       : run_group<false, 1>(block, group, before);
          }
          before = group;
          parity ^= 1;
        }
      }
    }
    rescale<0>(before);
    rescale<1>(before);
    rescale<2>(before);
    rescale<3>(before);
  }

  template <bool kDecode, int kGroupTiles>
  void run_group(const Block& block, const Group& group, const Group& before) {
    clear_c<kGroupTiles>();
    step<kDecode, kGroupTiles, 0>(block, group);
    rescale<0>(before);
    step<kDecode, kGroupTiles, 1>(block, group);
    rescale<1>(before);
    step<kDecode, kGroupTiles, 2>(block, group);
    rescale<2>(before);
    step<kDecode, kGroupTiles, 3>(block, group);
    rescale<3>(before);
    store_c<kGroupTiles>(group.parity);
  }

  template <int kGroupTiles>
  void clear_c() {
    tiles_.template zero<0>();
    if constexpr (kOperands == 2) tiles_.template zero<1>();
    if constexpr (kGroupTiles == 2) tiles_.template zero<2>();
    if constexpr (kGroupTiles == 2 && kOperands == 2) tiles_.template zero<3>();
  }

  template <int kGroupTiles>
  void store_c(int parity) {
    int32_t(*out)[kOperands][16][16] = products_[parity];
    tiles_.template store<0>(out[0][0], 64);
    if constexpr (kOperands == 2) tiles_.template store<1>(out[0][1], 64);
    if constexpr (kGroupTiles == 2) tiles_.template store<2>(out[1][0], 64);
    if constexpr (kGroupTiles == 2 && kOperands == 2) tiles_.template store<3>(out[1][1], 64);
  }

  template <bool kDecode, int kGroupTiles, int kStep>
  void step(const Block& block, const Group& group) {
    if constexpr (kDecode) {
      Type::template decode<kStep>(block, scales_, b_);
      prefetch_next<kStep>(block);
    }
    const int8_t* a = row_.q + 256 * group.block + 64 * kStep;
    tiles_.template load<6>(b_.rows[0][kStep], 64);
    tiles_.template load<4>(a + split_.first(group.first_tile) * p_.x_stride, p_.x_stride);
    product<0, 4, 6, Type::kSigned[0]>();
    if constexpr (kOperands == 2) {
      tiles_.template load<7>(b_.rows[1][kStep], 64);
      product<1, 4, 7, Type::kSigned[1]>();
    }
    if constexpr (kGroupTiles == 2) {
      tiles_.template load<5>(a + split_.first(group.first_tile + 1) * p_.x_stride, p_.x_stride);
      product<2, 5, 6, Type::kSigned[0]>();
      if constexpr (kOperands == 2) product<3, 5, 7, Type::kSigned[1]>();
    }
  }

  template <int kC, int kA, int kB, bool kSigned>
  void product() {
    if constexpr (kSigned) {
      tiles_.template dpbssd<kC, kA, kB>();
    } else {
      tiles_.template dpbsud<kC, kA, kB>();
    }
  }

  // A quarter of the panel's next block: one call's tokens pass in less time than memory answers
  // in, and two panels in turn are more than the hardware follows across pages.
  template <int kStep>
  static void prefetch_next(const Block& block) {
    constexpr int kBegin = Block::kWords * kStep / kSteps;
    constexpr int kEnd = Block::kWords * (kStep + 1) / kSteps;
    for (int w = kBegin; w < kEnd; ++w) {
      _mm_prefetch(reinterpret_cast<const char*>(block.words + Block::kWordBytes + 64 * w),
                   _MM_HINT_T0);
    }
  }

  // Quarter `kPart` of a group's rows: products -> sums, as quant/reference.h defines them.
  template <int kPart>
  void rescale(const Group& g) {
    if (g.tiles == 2) {
      rescale_rows<kPart / 2>(g, split_.rows * (kPart % 2) / 2, split_.rows * (kPart % 2 + 1) / 2);
    } else if (g.tiles == 1) {
      rescale_rows<0>(g, split_.rows * kPart / 4, split_.rows * (kPart + 1) / 4);
    }
  }

  // Rows [begin, end) of the group's token tile kTile. What a row needs of the block is loaded
  // once: the compiler cannot tell that storing sums leaves it alone.
  template <int kTile>
  void rescale_rows(const Group& g, int begin, int end) {
    const int first_token = split_.first(g.first_tile + kTile);
    const int32_t(*products)[16][16] = products_[g.parity][kTile];
    float(*sums)[16] = sums_[g.panel] + (g.first_tile + kTile) * split_.rows;
    const __m512 d = _mm512_load_ps(g.factors->d);
    const __m512 dmin = _mm512_load_ps(g.factors->dmin);
    __m512i minima[Type::kMinima > 0 ? Type::kMinima : 1];
    for (int i = 0; i < Type::kMinima; ++i) minima[i] = _mm512_load_si512(g.factors->minima[i]);
    const int64_t stride = p_.x_stride;
    const int64_t offset = (first_token + begin) * stride;
    const std::byte* a_d = reinterpret_cast<const std::byte*>(row_.d + g.block) + offset;
    const std::byte* a_sums =
        reinterpret_cast<const std::byte*>(row_.sums + quant::kA256Sums * g.block + Type::kSums) +
        offset;
#pragma GCC unroll 2
    for (int r = begin; r < end; ++r) {
      __m512i product = _mm512_load_si512(products[0][r]);
      if constexpr (kOperands == 2) {
        product = _mm512_add_epi32(_mm512_slli_epi32(product, Type::kShift),
                                   _mm512_load_si512(products[1][r]));
      }
      // Not by a negative factor: 0 must stay +0.
      if constexpr (Type::kNegated) product = _mm512_sub_epi32(_mm512_setzero_si512(), product);
      const __m512 da = _mm512_set1_ps(*reinterpret_cast<const float*>(a_d));
      __m512 sum = _mm512_fmadd_ps(_mm512_mul_ps(d, da), _mm512_cvtepi32_ps(product),
                                   _mm512_load_ps(sums[r]));
      if constexpr (Type::kMinima > 0) {
        const auto* pairs = reinterpret_cast<const int32_t*>(a_sums);
        __m512i m = _mm512_setzero_si512();
        for (int i = 0; i < Type::kMinima; ++i) {
          m = _mm512_dpwssd_epi32(m, minima[i], _mm512_set1_epi32(pairs[i]));
        }
        sum = _mm512_fnmadd_ps(_mm512_mul_ps(dmin, da), _mm512_cvtepi32_ps(m), sum);
      }
      store(sums[r], sum);
      a_d += stride;
      a_sums += stride;
    }
  }

  void clear_sums(int panels) {
    for (int i = 0; i < panels; ++i) {
      for (int r = 0; r < split_.count * split_.rows; ++r) store(sums_[i][r], _mm512_setzero_ps());
    }
  }

  void store_sums(int panel, int i) {
    const int columns = p_.n - panel * quant::kPanelRows;
    const auto mask =
        static_cast<__mmask16>(columns >= quant::kPanelRows ? 0xffffU : (1U << columns) - 1U);
    for (int tile = 0; tile < split_.count; ++tile) {
      float* y = y_ + split_.first(tile) * p_.y_stride + panel * quant::kPanelRows;
      for (int r = 0; r < split_.rows; ++r) {
        _mm512_mask_storeu_ps(y + r * p_.y_stride, mask,
                              _mm512_load_ps(sums_[i][tile * split_.rows + r]));
      }
    }
  }

  const LinearParams& p_;
  const TokenTiles split_;
  const int blocks_;
  const std::byte* const x_;  // of the first token
  float* const y_;
  const Row row_;  // of the first token
  typename Type::Scales scales_;
  BTiles<kOperands> b_;
  Factors factors_[2];  // of the block at hand and of the one whose products are being rescaled
  alignas(64) int32_t products_[2][2][kOperands][16][16];  // parity, token tile, operand
  alignas(64) float sums_[kPanels][kTokensAtOnce][16];
  TilesType tiles_;
};

}  // namespace tandem::cpu::amx
