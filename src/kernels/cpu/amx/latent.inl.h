// Latent attention (kernels/cpu/latent.h) on tile registers, for blocks of several vectors of
// queries. A tile of 64 keys is split into planes of high and low bytes once and meets all vectors:
//
//   scores  C [16 keys, 16 queries]     A: keys, 64 columns of a plane    B: queries, [columns / 4]
//   output  C [16 queries, 16 columns]  A: weights of 64 keys             B: values, [keys / 4]
//
// An integer is 256 hi + lo with hi signed and lo not, in keys, queries, weights and values alike,
// so both products are the same four tile products, hi.hi, hi.lo + lo.hi and lo.lo, for two right
// sides at a time: six C tiles, A in tile 6, B in tile 7. What was multiplied before is rescaled
// between the products, so that the tile unit and the vector units run at once.
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
    for (int key = 0; key < most; key += 16) {
      for (int j = vector; j < vectors_; j += 2) {
        j + 1 < vectors_ ? score<2>(j, key, half) : score<1>(j, key, half);
      }
    }
    rescale(pending_scores_, 0, 16);
    pending_scores_.count = 0;
    weave_values();
    for (int j = vector; j < vectors_; ++j) {
      weigh(j, seen(j, first));
      quantize_weights(j, seen(j, first), half);
      for (int g = 0; g < groups_.of_values(); ++g) split_weights(j, g);
    }
    for (int j = vector; j < vectors_; ++j) {
      for (int c = 0; c < p_.value_dim; c += 32) add_values(j, c);
    }
    rescale(pending_values_, 0, 16);
    pending_values_.count = 0;
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
  using Products = int32_t[3][16][16];  // hi.hi, hi.lo + lo.hi, lo.lo

  // What products_[parity] holds for one or two right sides.
  struct Scores {
    int count;
    int parity;
    const std::byte* key_scales;
    const float* q_scales;  // of the first vector
    bool first;             // group
    float* scores;          // of the first vector
  };
  struct Values {
    int count;
    int parity;
    const float* scales;   // [16]
    const float* factors;  // [16]
    float* output;         // [16, 16], rows Dv apart; the next 16 columns behind
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

  template <int kCount>
  void clear() {
    tiles_.template zero<0>();
    tiles_.template zero<1>();
    tiles_.template zero<2>();
    if constexpr (kCount == 2) {
      tiles_.template zero<3>();
      tiles_.template zero<4>();
      tiles_.template zero<5>();
    }
  }
  // Adds the products of A, one plane after the other, with one or two right sides. Calls between()
  // four times.
  template <int kCount, typename Between>
  void multiply(const std::byte* a_hi, const std::byte* a_lo, int64_t a_stride, const std::byte* b0,
                const std::byte* b1, const Between& between) {
    tiles_.template load<6>(a_hi, a_stride);
    tiles_.template load<7>(b0, 64);
    tiles_.template dpbssd<0, 6, 7>();
    tiles_.template load<7>(b0 + kTileBytes, 64);
    tiles_.template dpbsud<1, 6, 7>();
    between();
    if constexpr (kCount == 2) {
      tiles_.template load<7>(b1, 64);
      tiles_.template dpbssd<3, 6, 7>();
      tiles_.template load<7>(b1 + kTileBytes, 64);
      tiles_.template dpbsud<4, 6, 7>();
    }
    between();
    tiles_.template load<6>(a_lo, a_stride);
    tiles_.template load<7>(b0, 64);
    tiles_.template dpbusd<1, 6, 7>();
    tiles_.template load<7>(b0 + kTileBytes, 64);
    tiles_.template dpbuud<2, 6, 7>();
    between();
    if constexpr (kCount == 2) {
      tiles_.template load<7>(b1, 64);
      tiles_.template dpbusd<4, 6, 7>();
      tiles_.template load<7>(b1 + kTileBytes, 64);
      tiles_.template dpbuud<5, 6, 7>();
    }
    between();
  }
  template <int kCount>
  void store_products(int parity) {
    Products* out = products_[parity];
    tiles_.template store<0>(out[0][0], 64);
    tiles_.template store<1>(out[0][1], 64);
    tiles_.template store<2>(out[0][2], 64);
    if constexpr (kCount == 2) {
      tiles_.template store<3>(out[1][0], 64);
      tiles_.template store<4>(out[1][1], 64);
      tiles_.template store<5>(out[1][2], 64);
    }
  }
  static __m512 sum_of(const Products& products, int row) {
    const __m512i high = _mm512_slli_epi32(_mm512_load_si512(products[0][row]), 16);
    const __m512i middle = _mm512_slli_epi32(_mm512_load_si512(products[1][row]), 8);
    return _mm512_cvtepi32_ps(
        _mm512_add_epi32(_mm512_add_epi32(high, middle), _mm512_load_si512(products[2][row])));
  }

  // Scores of 16 keys and kCount vectors, group by group.
  template <int kCount>
  void score(int vector, int key, const LatentTile<const std::byte> (&half)[2]) {
    int step = 0;
    for (int g = 0; g < groups_.count(); ++g) {
      const int parts = (groups_.end(g) - groups_.begin(g) + 63) / 64 * 4;
      int part = 0;
      clear<kCount>();
      for (int d = groups_.begin(g); d < groups_.end(g); d += 64, ++step) {
        const int64_t at = key * plane_stride() + 64 * step;
        multiply<kCount>(planes_ + at, low_planes() + at, plane_stride(), q_tile(vector, step),
                         q_tile(vector + kCount - 1, step), [&] {
                           rescale(pending_scores_, 16 * part / parts, 16 * (part + 1) / parts);
                           ++part;
                         });
      }
      parity_ ^= 1;
      store_products<kCount>(parity_);
      pending_scores_ = {.count = kCount,
                         .parity = parity_,
                         .key_scales = half[key / kHalf].scales(g) + 4 * (key % kHalf),
                         .q_scales = q_scales_ + vector * q_scale_stride() + g * 16,
                         .first = g == 0,
                         .scores = weights(vector) + key * 16};
    }
  }
  // Rows [begin, end) of what was multiplied before.
  void rescale(const Scores& s, int begin, int end) {
    for (int j = 0; j < s.count; ++j) {
      const Vec16 q_scale = Vec16::load(s.q_scales + j * q_scale_stride());
      float* scores = s.scores + j * kLatentTile * 16;
      for (int i = begin; i < end; ++i) {
        const Vec16 factor =
            q_scale * Vec16::broadcast(reinterpret_cast<const float*>(s.key_scales)[i]);
        const Vec16 before = s.first ? Vec16::zero() : Vec16::load(scores + 16 * i);
        Vec16::fma({sum_of(products_[s.parity][j], i)}, factor, before).store(scores + 16 * i);
      }
    }
  }

  // Outputs of a vector's queries in the two value tiles from column c on.
  void add_values(int vector, int c) {
    const int g = c / kLatentGroup;
    const auto* weights = reinterpret_cast<const std::byte*>(integers(vector, g));
    int row = 0;
    clear<2>();
    multiply<2>(weights, weights + kTileBytes, 64, value_tile(c), value_tile(c + 16), [&] {
      rescale(pending_values_, row, row + 4);
      row += 4;
    });
    parity_ ^= 1;
    store_products<2>(parity_);
    pending_values_ = {.count = 2,
                       .parity = parity_,
                       .scales = integer_scales_ + (vector * groups_.of_values() + g) * 16,
                       .factors = factor_ + 16 * vector,
                       .output = output_of(vector) + c};
  }
  void rescale(const Values& v, int begin, int end) {
    for (int i = begin; v.count > 0 && i < end; ++i) {
      const Vec16 scale = Vec16::broadcast(v.scales[i]), factor = Vec16::broadcast(v.factors[i]);
      for (int j = 0; j < v.count; ++j) {
        float* out = v.output + int64_t{i} * p_.value_dim + 16 * j;
        Vec16::fma({sum_of(products_[v.parity][j], i)}, scale, Vec16::load(out) * factor)
            .store(out);
      }
    }
  }

  int steps_;           // of 64 columns, of all groups
  std::byte* q_tiles_;  // [vectors][steps][planes] tiles
  std::byte* planes_;   // of keys: [planes][64][64 steps]
  int parity_ = 0;
  Scores pending_scores_ = {};
  Values pending_values_ = {};
  alignas(64) Products products_[2][2];  // parity, right side
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
