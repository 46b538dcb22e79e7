// Latent attention (kernels/cpu/latent.h) on tile registers, for blocks of several vectors of
// queries. A tile of 64 keys is split into planes of high and low bytes once and meets all vectors:
//
//   scores  C [16 keys, 16 queries]     A: keys, 64 columns of a plane    B: queries, [columns / 4]
//   output  C [16 queries, 16 columns]  A: weights of 64 keys             B: values, [keys / 4]
//
// An integer is 256 hi + lo with hi signed and lo not, in keys, queries, weights and values alike,
// so both products are the same four tile products, hi.hi, hi.lo, lo.hi and lo.lo. Loops go group
// by group of 128 columns, so that what all vectors meet (32 KB of keys and queries, 16 KB of
// values) stays in the first-level cache. What was multiplied before is rescaled between the
// products, so that the tile unit and the vector units run at once.
//
//   tile registers   C 0 1 2 3    A hi lo 4 5    B hi lo 6 7
//
// Outputs stay rows [lane, Dv] here. Weaving four keys together leaves the 64 columns of a chunk in
// the order 0-3, 16-19, 32-35, 48-51 | 4-7, ...; outputs keep it to the end.
#pragma once

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#include "kernels/cpu/amx/tile_shape.h"
#include "kernels/cpu/avx512/ints16.h"
#include "kernels/cpu/lanes/attention.inl.h"

namespace tandem::cpu::amx {

using avx512::Ints16;
using avx512::Vec16;

// The high and the low bytes of 64 int16, in order.
struct BytePlanes {
  __m512i hi, lo;

  static inline BytePlanes of(__m512i first, __m512i second) {
    const __m512i low = _mm512_set1_epi16(0x00ff);
    // The packs work within 128-bit parts: their quadwords back in order.
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return {_mm512_permutexvar_epi64(order, _mm512_packs_epi16(_mm512_srai_epi16(first, 8),
                                                               _mm512_srai_epi16(second, 8))),
            _mm512_permutexvar_epi64(order, _mm512_packus_epi16(_mm512_and_si512(first, low),
                                                                _mm512_and_si512(second, low)))};
  }
};

template <typename TilesType>
class LatentOnTiles : public lanes::LatentInLanes<Vec16, Ints16> {
 public:
  // With one vector, splitting the keys would take as long as its products.
  static bool takes(const AttentionParams& p) {
    return p.kv_dtype == DType::kI16 && p.value_dim % kLatentGroup == 0 &&
           p.tokens * ((p.heads + 15) / 16) > 1;
  }

  explicit LatentOnTiles(const AttentionParams& p)
      : LatentInLanes(p),
        steps_(groups_.steps()),
        q_tiles_(bytes_at(p, LatentScratch(p.key_dim, p.value_dim).q_tiles)),
        planes_(bytes_at(p, LatentScratch(p.key_dim, p.value_dim).key_planes)),
        tiles_(config()) {
    for (int j = 0; j < vectors_; ++j) split_queries(j);
  }

  void add_tile(int first, int next) {
    const int vector = first_seeing(first);
    const int most = seen(vectors_ - 1, first);
    LatentTile<const std::byte> half[2];
    halves(first, most, half);
    split_keys(half, (most + 15) / 16 * 16, next);
    int step = 0;
    for (int g = 0; g < groups_.count(); ++g) {
      for (int key = 0; key < most; key += 16) {
        for (int j = vector; j < vectors_; ++j) score(j, key, g, step, half[key / kHalf]);
      }
      step += (groups_.end(g) - groups_.begin(g) + 63) / 64;
    }
    rescale(pending_scores_, 0, 16);
    pending_scores_.scores = nullptr;
    weave_values();
    for (int j = vector; j < vectors_; ++j) {
      weigh(j, seen(j, first));
      quantize_weights(j, seen(j, first), half);
      for (int g = 0; g < groups_.of_values(); ++g) split_weights(j, g);
    }
    for (int g = 0; g < groups_.of_values(); ++g) {
      for (int j = vector; j < vectors_; ++j) add_values(j, g);
    }
    rescale(pending_values_, 0, 16);
    pending_values_.output = nullptr;
  }

  void merge_span(bool first, const float* total_factors, const float* span_factors) {
    if (first) return std::swap(output_, total_);
    for (int64_t i = 0; i < vectors_ * 16; ++i) {
      lanes::merge_output(output_ + i * p_.value_dim, Vec16::broadcast(total_factors[i]),
                          Vec16::broadcast(span_factors[i]), total_ + i * p_.value_dim,
                          p_.value_dim);
    }
  }
  // Columns back in order.
  void finish() {
    for (int64_t i = 0; i < int64_t{vectors_} * 16 * p_.value_dim; i += 64) {
      for (int part = 0; part < 16; ++part) {
        _mm_storeu_ps(output_ + i + 16 * (part % 4) + 4 * (part / 4),
                      _mm_loadu_ps(total_ + i + 4 * part));
      }
    }
    std::swap(output_, total_);
  }

 private:
  static constexpr int64_t kTileBytes = 1024;
  static constexpr int kPlanes = 2;     // high, low
  using Products = int32_t[4][16][16];  // hi.hi, hi.lo, lo.lo and, or with hi.lo, lo.hi

  // What products_[parity] will become.
  struct Scores {
    float* scores;  // [16 keys][16]; null: there is nothing
    int parity;
    const std::byte* key_scales;
    const float* q_scales;  // [16]
    bool first;             // group
  };
  struct Values {
    float* output;  // [16, 16], rows Dv apart; null: there is nothing
    int parity;
    const float* scales;   // [16]
    const float* factors;  // [16]
  };

  static std::byte* bytes_at(const AttentionParams& p, int64_t floats) {
    return reinterpret_cast<std::byte*>(p.scratch + floats);
  }
  static TileConfig config() {
    TileConfig c;
    for (int tile = 0; tile < kTiles; ++tile) {
      c.rows[tile] = 16;
      c.row_bytes[tile] = 64;
    }
    return c;
  }

  int64_t plane_stride() const { return int64_t{64} * steps_; }  // from a key to the next
  std::byte* low_planes() const { return planes_ + kLatentTile * plane_stride(); }
  std::byte* q_tile(int vector, int step) const {
    return q_tiles_ + (vector * steps_ + step) * kPlanes * kTileBytes;
  }
  std::byte* value_tile(int column) const {
    return reinterpret_cast<std::byte*>(values_) + column / 16 * kPlanes * kTileBytes;
  }

  // Pairs of queries -> B tiles: row r has columns 4r .. 4r + 3 of the step, for 16 queries.
  // Columns beyond the group are 0, whatever the keys' planes hold there.
  void split_queries(int vector) {
    // In each 32 bits, of a pair of int16: low bytes to the front, high bytes behind them.
    const __m512i sort =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    int step = 0;
    for (int g = 0; g < groups_.count(); ++g) {
      for (int begin = groups_.begin(g); begin < groups_.end(g); begin += 64, ++step) {
        std::byte* tile = q_tile(vector, step);
        for (int r = 0; r < 16; ++r) {
          const int d = begin + 4 * r;
          const bool inside = d < groups_.end(g);
          const float* pairs = q_ + vector * q_stride() + int64_t{8} * d;
          const __m512i zero = _mm512_setzero_si512();
          const __m512i a = inside ? _mm512_shuffle_epi8(_mm512_loadu_si512(pairs), sort) : zero;
          const __m512i b =
              inside ? _mm512_shuffle_epi8(_mm512_loadu_si512(pairs + 16), sort) : zero;
          _mm512_store_si512(tile + 64 * r,
                             _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(a, 16), b));
          _mm512_store_si512(tile + kTileBytes + 64 * r,
                             _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16)));
        }
      }
    }
  }

  // The first `keys` rows -> planes, each step's columns at a multiple of 64. Fetches the tile from
  // `next` on meanwhile.
  void split_keys(const LatentTile<const std::byte> (&half)[2], int keys, int next) {
    const std::byte* upcoming = lanes::tile_at(p_, next).keys;
    for (int key = 0; key < keys; ++key) {
      const std::byte* row = half[key / kHalf].row(key % kHalf);
      if (key < kHalf) {
        for (int at = 0; at < 2 * p_.key_dim; at += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(upcoming + 2 * key * p_.key_dim + at),
                       _MM_HINT_T1);
        }
      }
      std::byte* hi = planes_ + key * plane_stride();
      std::byte* lo = low_planes() + key * plane_stride();
      for (int g = 0; g < groups_.count(); ++g) {
        for (int d = groups_.begin(g); d < groups_.end(g); d += 64, hi += 64, lo += 64) {
          const int columns = groups_.end(g) - d;
          const BytePlanes planes = BytePlanes::of(load_words(row + 2 * d, columns),
                                                   load_words(row + 2 * d + 64, columns - 32));
          _mm512_store_si512(hi, planes.hi);
          _mm512_store_si512(lo, planes.lo);
        }
      }
    }
  }
  // Up to 32 int16, then zeros.
  static __m512i load_words(const std::byte* p, int count) {
    const __mmask32 mask = count >= 32 ? 0xffffffffU : count <= 0 ? 0U : (1U << count) - 1U;
    return _mm512_maskz_loadu_epi16(mask, p);
  }

  // Planes of the values -> B tiles: row r has keys 4r .. 4r + 3, for 16 columns.
  void weave_values() {
    for (int plane = 0; plane < kPlanes; ++plane) {
      const std::byte* from = plane == 0 ? planes_ : low_planes();
      for (int c = 0; c < p_.value_dim; c += 64) {
        std::byte* to = value_tile(c) + plane * kTileBytes;
        for (int r = 0; r < 16; ++r, to += 64) {
          const std::byte* keys = from + 4 * r * plane_stride() + c;
          const __m512i k0 = _mm512_load_si512(keys);
          const __m512i k1 = _mm512_load_si512(keys + plane_stride());
          const __m512i k2 = _mm512_load_si512(keys + 2 * plane_stride());
          const __m512i k3 = _mm512_load_si512(keys + 3 * plane_stride());
          const __m512i a = _mm512_unpacklo_epi8(k0, k1), b = _mm512_unpacklo_epi8(k2, k3);
          const __m512i d = _mm512_unpackhi_epi8(k0, k1), e = _mm512_unpackhi_epi8(k2, k3);
          constexpr int64_t kNext = kPlanes * kTileBytes;
          _mm512_store_si512(to, _mm512_unpacklo_epi16(a, b));
          _mm512_store_si512(to + kNext, _mm512_unpackhi_epi16(a, b));
          _mm512_store_si512(to + 2 * kNext, _mm512_unpacklo_epi16(d, e));
          _mm512_store_si512(to + 3 * kNext, _mm512_unpackhi_epi16(d, e));
        }
      }
    }
  }

  // Pairs of weights [32][16 queries] -> A tiles [16 queries, 64 keys], in place.
  void split_weights(int vector, int group) {
    float* pairs = integers(vector, group);
    Vec16 rows[2][16];
    for (int i = 0; i < 2; ++i) {
      for (int r = 0; r < 16; ++r) rows[i][r] = Vec16::load(pairs + (16 * i + r) * 16);
      Vec16::transpose(rows[i]);
    }
    auto* tile = reinterpret_cast<std::byte*>(pairs);
    for (int r = 0; r < 16; ++r) {
      const BytePlanes planes =
          BytePlanes::of(_mm512_castps_si512(rows[0][r].v), _mm512_castps_si512(rows[1][r].v));
      _mm512_store_si512(tile + 64 * r, planes.hi);
      _mm512_store_si512(tile + kTileBytes + 64 * r, planes.lo);
    }
  }

  // Adds the products of A in 4 and 5 with B. kMiddles: whether hi.lo and lo.hi have one C tile, or
  // two for longer sums, each then waiting for the one before. Calls between() twice.
  template <int kMiddles, typename Between>
  void multiply(const std::byte* b, const Between& between) {
    tiles_.template load<6>(b, 64);
    tiles_.template load<7>(b + kTileBytes, 64);
    tiles_.template dpbsud<1, 4, 7>();
    tiles_.template dpbssd<0, 4, 6>();
    between();
    tiles_.template dpbuud<2, 5, 7>();
    tiles_.template dpbusd<kMiddles == 2 ? 3 : 1, 5, 6>();
    between();
  }
  template <int kMiddles>
  void clear() {
    tiles_.template zero<0>();
    tiles_.template zero<1>();
    tiles_.template zero<2>();
    if constexpr (kMiddles == 2) tiles_.template zero<3>();
  }
  template <int kMiddles>
  void store_products() {
    parity_ ^= 1;
    tiles_.template store<0>(products_[parity_][0], 64);
    tiles_.template store<1>(products_[parity_][1], 64);
    tiles_.template store<2>(products_[parity_][2], 64);
    if constexpr (kMiddles == 2) tiles_.template store<3>(products_[parity_][3], 64);
  }
  template <int kMiddles>
  static Vec16 sum_of(const Products& products, int row) {
    const auto load = [&](int i) { return _mm512_load_si512(products[i][row]); };
    const __m512i middle = kMiddles == 2 ? _mm512_add_epi32(load(1), load(3)) : load(1);
    return {_mm512_cvtepi32_ps(_mm512_add_epi32(
        _mm512_add_epi32(_mm512_slli_epi32(load(0), 16), _mm512_slli_epi32(middle, 8)), load(2)))};
  }

  // Scores of 16 keys and a vector, one group, whose first step is `step`.
  void score(int vector, int key, int group, int step, const LatentTile<const std::byte>& tile) {
    const int steps = (groups_.end(group) - groups_.begin(group) + 63) / 64;
    const int rows = 8 / steps;  // to rescale at a time
    int row = 0;
    clear<2>();
    for (int i = 0; i < steps; ++i) {
      const int64_t at = key * plane_stride() + 64 * (step + i);
      tiles_.template load<4>(planes_ + at, plane_stride());
      tiles_.template load<5>(low_planes() + at, plane_stride());
      multiply<2>(q_tile(vector, step + i), [&] {
        rescale(pending_scores_, row, row + rows);
        row += rows;
      });
    }
    store_products<2>();
    pending_scores_ = {.scores = weights(vector) + key * 16,
                       .parity = parity_,
                       .key_scales = tile.scales(group) + 4 * (key % kHalf),
                       .q_scales = q_scales_ + vector * q_scale_stride() + group * 16,
                       .first = group == 0};
  }
  // Rows [begin, end) of what was multiplied before.
  void rescale(const Scores& s, int begin, int end) {
    if (s.scores == nullptr) return;
    const Vec16 q_scale = Vec16::load(s.q_scales);
    for (int i = begin; i < end; ++i) {
      const Vec16 factor =
          q_scale * Vec16::broadcast(reinterpret_cast<const float*>(s.key_scales)[i]);
      const Vec16 before = s.first ? Vec16::zero() : Vec16::load(s.scores + 16 * i);
      Vec16::fma(sum_of<2>(products_[s.parity], i), factor, before).store(s.scores + 16 * i);
    }
  }

  // Outputs of a vector's queries in the columns of a group.
  void add_values(int vector, int group) {
    const auto* weights = reinterpret_cast<const std::byte*>(integers(vector, group));
    tiles_.template load<4>(weights, 64);
    tiles_.template load<5>(weights + kTileBytes, 64);
    for (int c = groups_.begin(group); c < groups_.end(group); c += 16) {
      int row = 0;
      clear<1>();
      multiply<1>(value_tile(c), [&] {
        rescale(pending_values_, row, row + 8);
        row += 8;
      });
      store_products<1>();
      pending_values_ = {.output = output_of(vector) + c,
                         .parity = parity_,
                         .scales = integer_scales_ + (vector * groups_.of_values() + group) * 16,
                         .factors = factor_ + 16 * vector};
    }
  }
  void rescale(const Values& v, int begin, int end) {
    if (v.output == nullptr) return;
    for (int i = begin; i < end; ++i) {
      float* out = v.output + int64_t{i} * p_.value_dim;
      Vec16::fma(sum_of<1>(products_[v.parity], i), Vec16::broadcast(v.scales[i]),
                 Vec16::load(out) * Vec16::broadcast(v.factors[i]))
          .store(out);
    }
  }

  int steps_;           // of 64 columns, of all groups
  std::byte* q_tiles_;  // [vectors][steps][planes] tiles
  std::byte* planes_;   // of keys: [planes][64][64 steps]
  int parity_ = 0;
  Scores pending_scores_ = {};
  Values pending_values_ = {};
  alignas(64) Products products_[2];  // by parity
  TilesType tiles_;
};

template <typename TilesType>
void attention(const AttentionParams& p) {
  if (LatentOnTiles<TilesType>::takes(p)) {
    lanes::attention_over<Vec16, LatentOnTiles<TilesType>>(p);
  } else {
    lanes::attention<Vec16, Ints16>(p);
  }
}

}  // namespace tandem::cpu::amx
