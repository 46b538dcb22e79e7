// Attention with queries in the lanes: for multi-head latent attention, whose values are the first
// columns of its keys, so that a tile fits one of the products only as it lies. Here both products
// take single elements of the tile. A vector of lanes is 16 heads of one token.
//
//   scores [32][16] += q [D][16] * key element          registers: 1 or 2 vectors x 8 keys
//   output [Dv][16] += weights [32][16] * key element              1 or 2 vectors x columns
//
//   scratch: keys f32 [32, D] | q [vectors][D][16] | weights [vectors][32][16] |
//   output [vectors][Dv][16], and as rows [lanes, Dv]
#pragma once

#include <limits>

#include "kernels/cpu/lanes/attention_keys.inl.h"

namespace tandem::cpu::lanes {

// Sixteen rows of n floats (or `rows` of them, then zeros) -> columns [n][16].
template <typename V>
inline void rows_to_columns(const float* rows, int64_t stride, int count, int n, float* columns) {
  for (int i = 0; i < n; i += 16) {
    V group[16];
    for (int r = 0; r < 16; ++r) {
      group[r] = r < count ? V::load(rows + r * stride + i) : V::zero();
    }
    V::transpose(group);
    for (int j = 0; j < 16; ++j) group[j].store(columns + (i + j) * 16);
  }
}

template <typename V>
inline void columns_to_rows(const float* columns, int n, float* rows, int64_t stride) {
  for (int i = 0; i < n; i += 16) {
    V group[16];
    for (int j = 0; j < 16; ++j) group[j] = V::load(columns + (i + j) * 16);
    V::transpose(group);
    for (int r = 0; r < 16; ++r) group[r].store(rows + r * stride + i);
  }
}

// scores[j][key] += q[j] . keys over dimensions [begin, end) for kVectors vectors and kKeys keys.
template <typename V, int kVectors, int kKeys>
inline void score_keys(const float* q, int64_t q_stride, const float* keys, int64_t dim, int begin,
                       int end, float* scores) {
  constexpr int64_t kScores = kAttentionTile * 16;  // of a vector
  const float* key[kKeys];
  for (int i = 0; i < kKeys; ++i) key[i] = keys + i * dim;
  V acc[kKeys][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kKeys; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      acc[i][j] = begin == 0 ? V::zero() : V::load(scores + j * kScores + i * 16);
    }
  }
  for (int64_t d = begin; d < end; ++d) {
    V query[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) query[j] = V::load(q + j * q_stride + d * 16);
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) {
      const V element = V::broadcast(key[i][d]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[i][j] = V::fma(query[j], element, acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kKeys; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) acc[i][j].store(scores + j * kScores + i * 16);
  }
}

// output[j][column] = output * factors[j] + sum over keys [begin, end), for kColumns columns.
template <typename V, int kVectors, int kColumns>
inline void add_columns(const float* weights, const float* factors, const float* values,
                        int64_t dim, int begin, int end, float* output, int64_t output_stride) {
  constexpr int64_t kWeights = kAttentionTile * 16;  // of a vector
  V acc[kColumns][kVectors];
#pragma GCC unroll 2
  for (int j = 0; j < kVectors; ++j) {
    const V factor = V::load(factors + 16 * j);
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      acc[c][j] = V::load(output + j * output_stride + c * 16) * factor;
    }
  }
  for (int64_t key = begin; key < end; ++key) {
    V weight[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) weight[j] = V::load(weights + j * kWeights + key * 16);
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      const V element = V::broadcast(values[key * dim + c]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) acc[c][j] = V::fma(weight[j], element, acc[c][j]);
    }
  }
#pragma GCC unroll 2
  for (int j = 0; j < kVectors; ++j) {
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) acc[c][j].store(output + j * output_stride + c * 16);
  }
}

template <typename V>
class QueriesInLanes {
 public:
  explicit QueriesInLanes(const AttentionParams& p)
      : p_(p),
        per_token_((p.heads + 15) / 16),
        vectors_(p.tokens * per_token_),
        keys_(p.scratch),
        q_(keys_ + kAttentionTile * p.key_dim),
        weights_(q_ + kAttentionQueries * p.key_dim),
        output_(weights_ + kAttentionQueries * kAttentionTile),
        rows_(output_ + kAttentionQueries * p.value_dim) {
    for (int j = 0; j < vectors_; ++j) {
      const int head = j % per_token_ * 16;
      rows_to_columns<V>(p.q + j / per_token_ * p.q_token_stride + int64_t{head} * p.key_dim,
                         p.key_dim, p.heads - head, p.key_dim, q_ + j * q_stride());
    }
  }

  void start_span() {
    for (int i = 0; i < kAttentionQueries; ++i) {
      maximum_[i] = -std::numeric_limits<float>::infinity();
      sum_[i] = 0.0F;
    }
    for (int64_t i = 0; i < vectors_ * output_stride(); i += 16) V::zero().store(output_ + i);
  }

  void add_tile(const AttentionTilePointers& tile, const AttentionTilePointers& next, int first) {
    widen<V>(tile.keys, keys_, int64_t{kAttentionTile} * p_.key_dim, p_.kv_dtype);
    int vector = 0;  // the first that sees a key of this tile
    while (seen(vector, first) <= 0) vector += per_token_;
    const Upcoming upcoming = {next.keys, p_.kv_dtype == DType::kF32 ? 4 : 2};
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(min(kVectors, vectors_ - j), [&](auto count) {
        score<count.value>(j, j == vector ? &upcoming : nullptr);
      });
    }
    for (int j = vector; j < vectors_; ++j) weigh(j, seen(j, first));
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(min(kVectors, vectors_ - j), [&](auto count) {
        const int together = seen(j, first);
        add_values<count.value>(j, factor_ + 16 * j, 0, together);
        const int last = j + count.value - 1;
        if (seen(last, first) > together)
          add_values<1>(last, kNothing, together, seen(last, first));
      });
    }
  }

  void end_span() {
    for (int j = 0; j < vectors_; ++j) {
      columns_to_rows<V>(output_ + j * output_stride(), p_.value_dim,
                         rows_ + int64_t{16} * j * p_.value_dim, p_.value_dim);
    }
  }
  int lane(int token, int head) const { return token * per_token_ * 16 + head; }
  const float* output(int lane) const { return rows_ + int64_t{lane} * p_.value_dim; }
  const float* maximum() const { return maximum_; }
  const float* sum() const { return sum_; }

 private:
  static constexpr int kVectors = V::kAccumulators >= 16 ? 2 : 1;
  static constexpr int kKeys = V::kAccumulators >= 16 ? 8 : 4;
  // Dimensions whose queries (two vectors) and keys stay in the first-level cache together.
  static constexpr int kDims = 96;
  static constexpr float kNothing[16] = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F,
                                         1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F};

  static int min(int a, int b) { return a < b ? a : b; }

  int64_t q_stride() const { return int64_t{16} * p_.key_dim; }  // from a vector to the next
  int64_t output_stride() const { return int64_t{16} * p_.value_dim; }
  // How many of the 32 keys from `first` on the vector's token sees; none if not positive.
  int seen(int vector, int first) const {
    return min(kAttentionTile, p_.first_keys + vector / per_token_ - first);
  }

  // Scores of kCount vectors. The next tile, if any, is fetched meanwhile, piece by piece.
  template <int kCount>
  void score(int vector, const Upcoming* next) {
    float* scores = weights_ + vector * kAttentionTile * 16;
    for (int begin = 0; begin < p_.key_dim; begin += kDims) {
      const int end = min(begin + kDims, p_.key_dim);
      for (int key = 0; key < kAttentionTile; key += kKeys) {
        for (int i = 0; next != nullptr && i < kKeys; ++i) {
          const std::byte* from = next->at((key + i) * p_.key_dim + begin).data;
          const std::byte* to = next->at((key + i) * p_.key_dim + end).data;
          for (; from < to; from += 64) __builtin_prefetch(from, 0, 2);
        }
        score_keys<V, kCount, kKeys>(q_ + vector * q_stride(), q_stride(), keys_ + key * p_.key_dim,
                                     p_.key_dim, begin, end, scores + key * 16);
      }
    }
  }

  // Scores -> weights of a vector that sees `count` keys; maxima, sums and the outputs' factors.
  void weigh(int vector, int count) {
    float* weights = weights_ + vector * kAttentionTile * 16;
    const V scale = V::broadcast(p_.scale);
    const V previous = V::load(maximum_ + 16 * vector);
    V maximum = previous;
    for (int key = 0; key < count; ++key) {
      const V score = V::load(weights + key * 16) * scale;
      maximum = V::max(score, maximum);
      score.store(weights + key * 16);
    }
    for (int key = 0; key < count; ++key) {
      exp_bounded(V::load(weights + key * 16) - maximum).store(weights + key * 16);
    }
    for (int key = count; key < kAttentionTile; ++key) V::zero().store(weights + key * 16);
    const V factor = exp_bounded(previous - maximum);
    maximum.store(maximum_ + 16 * vector);
    factor.store(factor_ + 16 * vector);
    V::fma(V::load(sum_ + 16 * vector), factor, tree<kAttentionTile / 2>(weights))
        .store(sum_ + 16 * vector);
  }

  // The sum of weights 0, step, 2 step ...: halves first.
  template <int kHalf>
  static V tree(const float* weights) {
    V t[kHalf];
    for (int i = 0; i < kHalf; ++i)
      t[i] = V::load(weights + i * 16) + V::load(weights + (i + kHalf) * 16);
    for (int half = kHalf / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) t[i] = t[i] + t[i + half];
    }
    return t[0];
  }

  template <int kCount>
  void add_values(int vector, const float* factors, int begin, int end) {
    constexpr int kColumns = V::kAccumulators / kCount;  // divides 16, as the width does
    const float* weights = weights_ + vector * kAttentionTile * 16;
    float* output = output_ + vector * output_stride();
    for (int c = 0; c < p_.value_dim; c += kColumns) {
      add_columns<V, kCount, kColumns>(weights, factors, keys_ + c, p_.key_dim, begin, end,
                                       output + c * 16, output_stride());
    }
  }

  const AttentionParams& p_;
  int per_token_;  // vectors
  int vectors_;
  float* keys_;
  float* q_;
  float* weights_;
  float* output_;
  float* rows_;
  alignas(64) float maximum_[kAttentionQueries];
  alignas(64) float sum_[kAttentionQueries];
  alignas(64) float factor_[kAttentionQueries];
};

}  // namespace tandem::cpu::lanes
