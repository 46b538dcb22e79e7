// Attention with keys, then columns of values, in the lanes: for caches whose tiles hold one key in
// each column. A block is two small matrix products for each tile of 32 keys, and serves one query
// (decode) as well as 64 (prefill).
//
//   scores [queries, 32] = q [queries, D] x keys [D, 32]          registers: queries x 32 keys
//   output [queries, Dv] += weights [queries, 32] x values [32, Dv]   queries x columns
//
//   scratch: keys f32 [D, 32] | values f32 [32, Dv] | weights [queries, 32] | output and total
//   [queries, Dv]
#pragma once

#include <limits>
#include <utility>

#include "kernels/cpu/lanes/constants.inl.h"
#include "kernels/cpu/lanes/elementwise.inl.h"

namespace tandem::cpu::lanes {

template <typename V>
inline void widen(const std::byte* from, float* to, int64_t n, DType dtype) {
  with_dtype(dtype, [&](auto type) {
    for (int64_t i = 0; i < n; i += 16) load_elements<V, type.value>(from, i).store(to + i);
  });
}

// What will be read soon, as elements of the cache: fetched while another tile is computed with.
// Tiles lie on scattered pages, which the hardware cannot foresee.
struct Upcoming {
  const std::byte* data;
  int64_t element_bytes;

  Upcoming at(int64_t element) const { return {data + element * element_bytes, element_bytes}; }
};

// scores[r, 0 .. 31] = (q[r] . keys) * scale for kRows queries.
template <typename V, DType kType, int kRows>
inline void score_rows(const float* const* queries, const std::byte* keys, Upcoming next, int dim,
                       float scale, float* scores) {
  constexpr int kVectors = V::kAccumulators >= 16 ? 2 : 1;
  const float* q[kRows];
  for (int r = 0; r < kRows; ++r) q[r] = queries[r];
  const V factor = V::broadcast(scale);
  for (int half = 0; half < 2; half += kVectors) {
    V acc[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[r][j] = V::zero();
    }
    for (int64_t d = 0; d < dim; ++d) {
      V key[kVectors];
      __builtin_prefetch(next.at(d * kAttentionTile).data, 0, 2);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        key[j] = load_elements<V, kType>(keys, d * kAttentionTile + 16 * (half + j));
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const V value = V::broadcast(q[r][d]);
#pragma GCC unroll 2
        for (int j = 0; j < kVectors; ++j) acc[r][j] = V::fma(value, key[j], acc[r][j]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        (acc[r][j] * factor).store(scores + r * kAttentionTile + 16 * (half + j));
      }
    }
  }
}

// output[r, 16 kColumns columns] = output * factors[r] + sum over keys [begin, end) of weight *
// value.
template <typename V, DType kType, int kRows, int kColumns>
inline void add_values(const float* weights, const float* factors, const std::byte* values,
                       Upcoming next, int64_t width, int begin, int end, float* output) {
  V acc[kRows][kColumns];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const V factor = V::broadcast(factors[r]);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) acc[r][c] = V::load(output + r * width + 16 * c) * factor;
  }
  for (int64_t key = begin; key < end; ++key) {
    V value[kColumns];
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      value[c] = load_elements<V, kType>(values, key * width + 16 * c);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kColumns; i += 2) {  // two groups of halves are a cache line
      __builtin_prefetch(next.at(key * width).data + 32 * i, 0, 2);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V weight = V::broadcast(weights[r * kAttentionTile + key]);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) acc[r][c] = V::fma(weight, value[c], acc[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) acc[r][c].store(output + r * width + 16 * c);
  }
}

// All columns, as many at a time as the registers allow.
template <typename V, DType kType, int kRows>
inline void add_all_values(const float* weights, const float* factors, const std::byte* values,
                           Upcoming next, int64_t width, int begin, int end, float* output) {
  constexpr int kFit = V::kAccumulators / (kRows == 3 ? 4 : kRows);
  constexpr int kColumns = kFit < 8 ? kFit : 8;
  constexpr int kBytes = 16 * kElementBytes<kType>;
  int64_t c = 0;  // in groups of 16 columns
  for (; c + kColumns <= width / 16; c += kColumns) {
    add_values<V, kType, kRows, kColumns>(weights, factors, values + c * kBytes, next.at(16 * c),
                                          width, begin, end, output + 16 * c);
  }
  for (; c < width / 16; ++c) {
    add_values<V, kType, kRows, 1>(weights, factors, values + c * kBytes, next.at(16 * c), width,
                                   begin, end, output + 16 * c);
  }
}

struct AttentionTilePointers {
  const std::byte* keys;
  const std::byte* values;
};

// The tile of the cache that begins with key `first` of the sequence.
static inline AttentionTilePointers tile_at(const AttentionParams& p, int first) {
  const int64_t page = p.pages[first / p.page_size] * p.page_stride;
  const int64_t tile = first % p.page_size / kAttentionTile;
  return {p.k + page + tile * p.k_tile_stride, p.v + page + tile * p.v_tile_stride};
}

// The output of a span joins that of the spans before it.
template <typename V>
inline void merge_output(const float* span, V total_factor, V span_factor, float* out, int width) {
  for (int i = 0; i < width; i += 16) {
    V::fma(V::load(out + i), total_factor, V::load(span + i) * span_factor).store(out + i);
  }
}

template <typename V>
class KeysInLanes {
 public:
  static constexpr int kTileKeys = kAttentionTile;

  explicit KeysInLanes(const AttentionParams& p)
      : p_(p),
        queries_(p.tokens * p.heads),
        keys_(p.scratch),
        values_(keys_ + kAttentionTile * p.key_dim),
        weights_(values_ + kAttentionTile * p.value_dim),
        output_(weights_ + kAttentionQueries * kAttentionTile),
        total_(output_ + kAttentionQueries * p.value_dim) {
    for (int r = 0; r < queries_; ++r) {
      q_[r] = p.q + r / p.heads * p.q_token_stride + int64_t{r % p.heads} * p.key_dim;
    }
  }

  void start_span() {
    for (int r = 0; r < kAttentionQueries; ++r) {
      maximum_[r] = -std::numeric_limits<float>::infinity();
      sum_[r] = 0.0F;
    }
    for (int64_t i = 0; i < int64_t{queries_} * p_.value_dim; i += 16) V::zero().store(output_ + i);
  }

  // The keys from `first` on. Those from `next_first` on come after them.
  void add_tile(int first, int next_first) {
    const AttentionTilePointers tile = tile_at(p_, first), next = tile_at(p_, next_first);
    int row = 0;  // of the first query that sees a key of this tile
    while (seen(row, first) <= 0) row += p_.heads;
    // One pass over the tile needs no copy of it as floats.
    const bool copy = p_.kv_dtype != DType::kF32 && queries_ > kScoreRows;
    AttentionTilePointers from = tile;
    if (copy) {
      widen<V>(tile.keys, keys_, int64_t{p_.key_dim} * kAttentionTile, p_.kv_dtype);
      widen<V>(tile.values, values_, int64_t{kAttentionTile} * p_.value_dim, p_.kv_dtype);
      from = {reinterpret_cast<const std::byte*>(keys_),
              reinterpret_cast<const std::byte*>(values_)};
    }
    const int64_t bytes = p_.kv_dtype == DType::kF32 ? 4 : 2;
    const Upcoming next_keys = {next.keys, bytes};
    const Upcoming next_values = {next.values, bytes};
    with_dtype(copy ? DType::kF32 : p_.kv_dtype, [&](auto type) {
      for (int r = row; r < queries_; r += kScoreRows) {
        with_constant<kScoreRows>(min(kScoreRows, queries_ - r), [&](auto rows) {
          score_rows<V, type.value, rows.value>(q_ + r, from.keys, next_keys, p_.key_dim, p_.scale,
                                                weights_ + r * kAttentionTile);
        });
      }
      weigh(first);
      for (int r = row; r < queries_; r += kValueRows) {
        with_constant<kValueRows>(min(kValueRows, queries_ - r), [&](auto rows) {
          add_group<type.value, rows.value>(r, from.values, next_values, first);
        });
      }
    });
  }

  // total * total_factors + span * span_factors, for each lane.
  void merge_span(bool first, const float* total_factors, const float* span_factors) {
    if (first) return std::swap(output_, total_);
    for (int64_t r = 0; r < queries_; ++r) {
      merge_output(output_ + r * p_.value_dim, V::broadcast(total_factors[r]),
                   V::broadcast(span_factors[r]), total_ + r * p_.value_dim, p_.value_dim);
    }
  }
  void finish() {}

  // The total, for query `head` of token `token` in a lane; maxima and sums are the span's.
  int lane(int token, int head) const { return token * p_.heads + head; }
  const float* output(int lane) const { return total_ + int64_t{lane} * p_.value_dim; }
  const float* maximum() const { return maximum_; }
  const float* sum() const { return sum_; }

 private:
  static constexpr int kScoreRows = V::kAccumulators >= 16 ? 8 : 4;
  static constexpr int kValueRows = V::kAccumulators >= 16 ? 4 : 2;

  static int min(int a, int b) { return a < b ? a : b; }
  static int max(int a, int b) { return a > b ? a : b; }

  // How many of the 32 keys from `first` on the query sees; none if not positive.
  int seen(int row, int first) const {
    return min(kAttentionTile, p_.first_keys + row / p_.heads - first);
  }

  // Scores -> weights; maxima, sums and the outputs' factors. A query that sees none of these keys
  // keeps its maximum and sum, and gets factor 1. Rows beyond the last query are computed with.
  void weigh(int first) {
    alignas(64) float previous[kAttentionQueries], highest[kAttentionQueries],
        tile_sum[kAttentionQueries];
    for (int r = 0; r < queries_; ++r) {
      for (int key = max(0, seen(r, first)); key < kAttentionTile; ++key) {
        weights_[r * kAttentionTile + key] = -std::numeric_limits<float>::infinity();
      }
    }
    const auto load = [&](int r, int half) {
      return V::load(weights_ + r * kAttentionTile + 16 * half);
    };
    for (int r = 0; r < queries_; r += 4) {
      const auto high = [&](int i) { return V::max(load(r + i, 0), load(r + i, 1)); };
      V::store_maxima(high(0), high(1), high(2), high(3), highest + r);
    }
    for (int r = 0; r < queries_; r += 16) {
      const V before = V::load(maximum_ + r);
      before.store(previous + r);
      V::max(V::load(highest + r), before).store(maximum_ + r);
    }
    for (int r = 0; r < queries_; ++r) {
      const V shift = V::broadcast(maximum_[r]);
      for (int half = 0; half < 2; ++half) {
        exp_bounded(load(r, half) - shift).store(weights_ + r * kAttentionTile + 16 * half);
      }
    }
    for (int r = 0; r < queries_; r += 4) {
      const auto pairs = [&](int i) { return load(r + i, 0) + load(r + i, 1); };
      V::store_sums(pairs(0), pairs(1), pairs(2), pairs(3), tile_sum + r);
    }
    for (int r = 0; r < queries_; r += 16) {
      const V factor = exp_bounded(V::load(previous + r) - V::load(maximum_ + r));
      factor.store(factor_ + r);
      V::fma(V::load(sum_ + r), factor, V::load(tile_sum + r)).store(sum_ + r);
    }
  }

  // The values of the keys that all kRows queries see together, then the rest one by one.
  template <DType kType, int kRows>
  void add_group(int row, const std::byte* values, Upcoming next, int first) {
    const int64_t width = p_.value_dim;
    const float* weights = weights_ + row * kAttentionTile;
    float* output = output_ + row * width;
    const int together = seen(row, first);
    add_all_values<V, kType, kRows>(weights, factor_ + row, values, next, width, 0, together,
                                    output);
    constexpr float kNothing = 1.0F;
    for (int r = 1; r < kRows; ++r) {
      const int end = seen(row + r, first);
      if (end == together) continue;
      add_all_values<V, kType, 1>(weights + r * kAttentionTile, &kNothing, values, next, width,
                                  together, end, output + r * width);
    }
  }

  const AttentionParams& p_;
  int queries_;
  float* keys_;     // [D, 32]
  float* values_;   // [32, Dv]
  float* weights_;  // [queries, 32]
  float* output_;   // [queries, Dv]
  float* total_;    // [queries, Dv], of the spans so far
  const float* q_[kAttentionQueries];
  alignas(64) float maximum_[kAttentionQueries];
  alignas(64) float sum_[kAttentionQueries];
  alignas(64) float factor_[kAttentionQueries];
};

}  // namespace tandem::cpu::lanes
