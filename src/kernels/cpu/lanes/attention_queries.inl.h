// Attention with queries in the lanes: for multi-head latent attention, whose values are the first
// columns of its keys, so that a tile fits one of the products only as it lies. Here both products
// take single elements of the tile. A vector of lanes is 16 heads of one token. What vectors have
// in common, and the kernel for a cache of float32; attention_latent.inl.h has that of integers.
//
//   scores [32][16] += q [D][16] * key element          registers: 1 or 2 vectors x 8 keys
//   output [Dv][16] += weights [32][16] * key element              1 or 2 vectors x columns
//
//   scratch: q [vectors][D][16] | weights [vectors][32][16] | output and total [vectors][Dv][16]
#pragma once

#include <limits>
#include <utility>

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

// What a block's vectors of queries have, whatever the cache holds: their shape, maxima and sums,
// and weights and outputs of kTile keys at a time.
template <typename V, int kTile>
class HeadVectors {
 public:
  static constexpr int kTileKeys = kTile;

  // weights: [vectors][kTile][16]; output, total: [vectors][Dv][16]
  HeadVectors(const AttentionParams& p, float* weights, float* output, float* total)
      : p_(p),
        per_token_((p.heads + 15) / 16),
        vectors_(p.tokens * per_token_),
        weights_(weights),
        output_(output),
        total_(total) {}

  void start_span() {
    for (int i = 0; i < kAttentionQueries; ++i) {
      maximum_[i] = -std::numeric_limits<float>::infinity();
      sum_[i] = 0.0F;
    }
    for (int64_t i = 0; i < vectors_ * output_stride(); i += 16) V::zero().store(output_ + i);
  }
  void merge_span(bool first, const float* total_factors, const float* span_factors) {
    if (first) return std::swap(output_, total_);
    for (int j = 0; j < vectors_; ++j) {
      const V total_factor = V::load(total_factors + 16 * j);
      merge_output(output_of(j), total_factor, V::load(span_factors + 16 * j),
                   total_ + j * output_stride(), static_cast<int>(output_stride()));
    }
  }
  // From columns to rows [lanes, Dv].
  void finish() {
    for (int j = 0; j < vectors_; ++j) {
      columns_to_rows<V>(total_ + j * output_stride(), p_.value_dim, output_of(j), p_.value_dim);
    }
    std::swap(output_, total_);
  }
  int lane(int token, int head) const { return token * per_token_ * 16 + head; }
  const float* output(int lane) const { return total_ + int64_t{lane} * p_.value_dim; }
  const float* maximum() const { return maximum_; }
  const float* sum() const { return sum_; }

 protected:
  static constexpr int kVectors = V::kAccumulators >= 16 ? 2 : 1;
  static constexpr int kKeys = V::kAccumulators >= 16 ? 8 : 4;

  static int min(int a, int b) { return a < b ? a : b; }

  // From a vector to the next.
  int64_t q_stride() const { return int64_t{16} * p_.key_dim; }
  int64_t output_stride() const { return int64_t{16} * p_.value_dim; }
  float* weights(int vector) { return weights_ + vector * kTile * 16; }
  float* output_of(int vector) { return output_ + vector * output_stride(); }

  // How many of the tile's keys, from `first` on, the vector's token sees; none if not positive.
  int seen(int vector, int first) const {
    return min(kTile, p_.first_keys + vector / per_token_ - first);
  }
  // The first that sees a key of the tile.
  int first_seeing(int first) const {
    int vector = 0;
    while (seen(vector, first) <= 0) vector += per_token_;
    return vector;
  }
  // Columns of q of a vector: [D][16].
  void load_queries(int vector, float* columns) const {
    const int head = vector % per_token_ * 16;
    rows_to_columns<V>(p_.q + vector / per_token_ * p_.q_token_stride + int64_t{head} * p_.key_dim,
                       p_.key_dim, p_.heads - head, p_.key_dim, columns);
  }

  // Scores -> weights of a vector that sees `count` keys; maxima, sums and the outputs' factors.
  void weigh(int vector, int count) {
    float* scores = weights(vector);
    const V scale = V::broadcast(p_.scale);
    const V previous = V::load(maximum_ + 16 * vector);
    V maximum = previous;
    for (int key = 0; key < count; ++key) {
      const V score = V::load(scores + key * 16) * scale;
      maximum = V::max(score, maximum);
      score.store(scores + key * 16);
    }
    for (int key = 0; key < count; ++key) {
      exp_bounded(V::load(scores + key * 16) - maximum).store(scores + key * 16);
    }
    for (int key = count; key < kTile; ++key) V::zero().store(scores + key * 16);
    const V factor = exp_bounded(previous - maximum);
    maximum.store(maximum_ + 16 * vector);
    factor.store(factor_ + 16 * vector);
    V::fma(V::load(sum_ + 16 * vector), factor, tree<kTile / 2>(scores)).store(sum_ + 16 * vector);
  }

  const AttentionParams& p_;
  int per_token_;  // vectors
  int vectors_;
  float* weights_;
  float* output_;
  float* total_;  // of the spans so far
  alignas(64) float maximum_[kAttentionQueries];
  alignas(64) float sum_[kAttentionQueries];
  alignas(64) float factor_[kAttentionQueries];

 private:
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
};

template <typename V>
class QueriesInLanes : public HeadVectors<V, kAttentionTile> {
 public:
  explicit QueriesInLanes(const AttentionParams& p)
      : Base(p, p.scratch + kAttentionQueries * p.key_dim,
             p.scratch + kAttentionQueries * (p.key_dim + kAttentionTile),
             p.scratch + kAttentionQueries * (p.key_dim + kAttentionTile + p.value_dim)),
        q_(p.scratch) {
    for (int j = 0; j < vectors_; ++j) this->load_queries(j, q_ + j * this->q_stride());
  }

  // The keys from `first` on. Those from `next` on come after them.
  void add_tile(int first, int next) {
    const auto* keys = reinterpret_cast<const float*>(tile_at(p_, first).keys);
    const int vector = this->first_seeing(first);
    const Upcoming upcoming = {tile_at(p_, next).keys, 4};
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(this->min(kVectors, vectors_ - j), [&](auto count) {
        score<count.value>(j, keys, j == vector ? &upcoming : nullptr);
      });
    }
    for (int j = vector; j < vectors_; ++j) this->weigh(j, this->seen(j, first));
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(this->min(kVectors, vectors_ - j), [&](auto count) {
        const int together = this->seen(j, first);
        add_values<count.value>(j, keys, this->factor_ + 16 * j, 0, together);
        const int last = j + count.value - 1;
        const int end = this->seen(last, first);
        if (end > together) add_values<1>(last, keys, kNothing, together, end);
      });
    }
  }

 private:
  using Base = HeadVectors<V, kAttentionTile>;
  using Base::kKeys;
  using Base::kVectors;
  using Base::p_;
  using Base::vectors_;
  // Dimensions whose queries (two vectors) and keys stay in the first-level cache together.
  static constexpr int kDims = 96;
  static constexpr float kNothing[16] = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F,
                                         1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F};

  // Scores of kCount vectors. The next tile, if any, is fetched meanwhile, piece by piece.
  template <int kCount>
  void score(int vector, const float* keys, const Upcoming* next) {
    float* scores = this->weights(vector);
    for (int begin = 0; begin < p_.key_dim; begin += kDims) {
      const int end = this->min(begin + kDims, p_.key_dim);
      for (int key = 0; key < kAttentionTile; key += kKeys) {
        for (int i = 0; next != nullptr && i < kKeys; ++i) {
          const std::byte* from = next->at((key + i) * p_.key_dim + begin).data;
          const std::byte* to = next->at((key + i) * p_.key_dim + end).data;
          for (; from < to; from += 64) __builtin_prefetch(from, 0, 2);
        }
        score_keys<V, kCount, kKeys>(q_ + vector * this->q_stride(), this->q_stride(),
                                     keys + key * p_.key_dim, p_.key_dim, begin, end,
                                     scores + key * 16);
      }
    }
  }

  template <int kCount>
  void add_values(int vector, const float* keys, const float* factors, int begin, int end) {
    constexpr int kColumns = V::kAccumulators / kCount;  // divides 16, as the width does
    float* output = this->output_of(vector);
    for (int c = 0; c < p_.value_dim; c += kColumns) {
      add_columns<V, kCount, kColumns>(this->weights(vector), factors, keys + c, p_.key_dim, begin,
                                       end, output + c * 16, this->output_stride());
    }
  }

  float* q_;
};

}  // namespace tandem::cpu::lanes
