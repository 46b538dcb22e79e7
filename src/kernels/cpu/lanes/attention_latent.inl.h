// Latent attention on exact integers (the definition is in kernels/cpu/latent.h), queries in the
// lanes. I is the instruction set's sixteen lanes of integers beside V's floats; a lane multiplies
// two neighbours at a time: columns of a key, which lie side by side in the cache, then keys of a
// column, which are brought together once for all queries of the block.
//
//   scores [64][16] = q pairs [D / 2][16] . key pairs        registers: 1 or 2 vectors x 8 keys
//   output [Dv][16] += weight pairs [32][16] . value pairs              1 or 2 vectors x columns
//
//   value pairs: [Dv / 16][32][16], so that the 32 pairs of 16 columns are read in order
//                | k0 k1 of column 0 | k0 k1 of column 1 | ... 15 |   keys 0 and 1
//                | k2 k3 of column 0 | ...                            keys 2 and 3
#pragma once

#include "kernels/cpu/lanes/attention_queries.inl.h"
#include "kernels/cpu/latent.h"
#include "quant/activation.h"

namespace tandem::cpu::lanes {

// x where it is a number, at least `lowest`; else that. Then to the nearest integer.
template <typename V, typename I>
inline I round_bounded(V x, float lowest) {
  return I::round(V::max(x, V::broadcast(lowest)));
}

// highest / maximum, or 0 where the maximum is too small.
template <typename V>
inline V inverse_scale(V maximum, float highest) {
  return V::zero_below(maximum, V::broadcast(quant::kSmallestMaximum),
                       V::broadcast(highest) / maximum);
}

template <typename V>
inline V max_magnitude(V x, V maximum) {
  return V::max(V::max(x, V::zero() - x), maximum);  // in this order a NaN does not count
}

// A row of floats -> row `in_tile` of a tile of the cache.
template <typename V, typename I>
void store_latent(const LatentStoreParams& p) {
  const LatentGroups groups = {p.key_dim, p.value_dim};
  const LatentTile<std::byte> tile = {p.tile, p.key_dim};
  std::byte* row = tile.row(p.in_tile);
  for (int g = 0; g < groups.count(); ++g) {
    V largest = V::zero();
    for (int i = groups.begin(g); i < groups.end(g); i += 16) {
      largest = max_magnitude(V::load(p.x + i), largest);
    }
    const float maximum = largest.maximum(), scale = maximum / kLatentHighest;
    std::memcpy(tile.scales(g) + 4 * p.in_tile, &scale, sizeof scale);
    const V inverse = inverse_scale(V::broadcast(maximum), kLatentHighest);
    for (int i = groups.begin(g); i < groups.end(g); i += 16) {
      round_bounded<V, I>(V::load(p.x + i) * inverse, -kLatentHighest).store_narrow(row + 2 * i);
    }
  }
}

// Columns of q [D][16] -> pairs [D / 2][16] and scales [groups][16].
template <typename V, typename I>
inline void quantize_queries(const float* columns, LatentGroups groups, float* pairs,
                             float* scales) {
  for (int g = 0; g < groups.count(); ++g) {
    V maximum = V::zero();
    for (int d = groups.begin(g); d < groups.end(g); ++d) {
      maximum = max_magnitude(V::load(columns + d * 16), maximum);
    }
    (maximum / V::broadcast(kLatentHighest)).store(scales + g * 16);
    const V inverse = inverse_scale(maximum, kLatentHighest);
    const auto integer = [&](int d) {
      return round_bounded<V, I>(V::load(columns + d * 16) * inverse, -kLatentHighest);
    };
    for (int d = groups.begin(g); d < groups.end(g); d += 2) {
      I::pair(integer(d), integer(d + 1)).store(pairs + d * 8);
    }
  }
}

// One group's part of the scores of kVectors vectors and kKeys keys.
struct LatentScores {
  const float* q;         // pairs [columns / 2][16] of the first vector, the next q_stride behind
  const float* q_scales;  // [16] of the first vector, the next q_scale_stride behind
  int64_t q_stride, q_scale_stride;
  const std::byte* keys;        // [keys, columns], rows key_stride bytes apart
  const std::byte* key_scales;  // [keys] f32
  int64_t key_stride;
  int columns;
  bool first;     // group: the sum starts
  float* scores;  // [keys][16] of the first vector, the next kLatentTile * 16 behind
};

template <typename V, typename I, int kVectors, int kKeys>
inline void score_group(const LatentScores& p) {
  const std::byte* key[kKeys];
  for (int i = 0; i < kKeys; ++i) key[i] = p.keys + i * p.key_stride;
  I acc[kKeys][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kKeys; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) acc[i][j] = I::zero();
  }
  const float* q = p.q;
  for (int64_t d = 0; d < p.columns; d += 2, q += 16) {
    I query[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) query[j] = I::load(q + j * p.q_stride);
#pragma GCC unroll 8
    for (int i = 0; i < kKeys; ++i) {
      const I pair = I::broadcast_pair(key[i] + 2 * d);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        acc[i][j] = I::multiply_pairs(acc[i][j], query[j], pair);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kKeys; ++i) {
    float key_scale;
    std::memcpy(&key_scale, p.key_scales + 4 * i, sizeof key_scale);
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      float* score = p.scores + (j * kLatentTile + i) * 16;
      const V factor = V::load(p.q_scales + j * p.q_scale_stride) * V::broadcast(key_scale);
      V::fma(acc[i][j].floats(), factor, p.first ? V::zero() : V::load(score)).store(score);
    }
  }
}

// output[j][column] = sum over the pairs of keys * scale + output * factor, for kColumns columns.
struct LatentValues {
  const float* weights;  // pairs [32][16] of the first vector, the next weight_stride behind
  const float* scales;   // [16] of the first vector, the next scale_stride behind
  const float* factors;  // [vectors][16]
  int64_t weight_stride, scale_stride;
  const float* values;  // pairs [32][16], from the first column on
  int pairs;
  float* output;  // [columns][16] of the first vector, the next output_stride behind
  int64_t output_stride;
};

template <typename V, typename I, int kVectors, int kColumns>
inline void add_latent_columns(const LatentValues& p) {
  I acc[kColumns][kVectors];
#pragma GCC unroll 16
  for (int c = 0; c < kColumns; ++c) {
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) acc[c][j] = I::zero();
  }
  for (int64_t pair = 0; pair < p.pairs; ++pair) {
    I weight[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) {
      weight[j] = I::load(p.weights + j * p.weight_stride + pair * 16);
    }
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      const I value = I::broadcast_pair(p.values + pair * 16 + c);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        acc[c][j] = I::multiply_pairs(acc[c][j], weight[j], value);
      }
    }
  }
#pragma GCC unroll 2
  for (int j = 0; j < kVectors; ++j) {
    const V scale = V::load(p.scales + j * p.scale_stride);
    const V factor = V::load(p.factors + 16 * j);
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) {
      float* out = p.output + j * p.output_stride + c * 16;
      V::fma(acc[c][j].floats(), scale, V::load(out) * factor).store(out);
    }
  }
}

template <typename V, typename I>
class LatentInLanes : public HeadVectors<V, kLatentTile> {
 public:
  explicit LatentInLanes(const AttentionParams& p)
      : LatentInLanes(p, LatentScratch(p.key_dim, p.value_dim)) {}

  void add_tile(int first, int next) {
    const int vector = this->first_seeing(first);
    const int most = this->seen(vectors_ - 1, first);
    LatentTile<const std::byte> half[2];
    halves(first, most, half);
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(this->min(kVectors, vectors_ - j), [&](auto count) {
        const int keys = this->seen(j + count.value - 1, first);
        score<count.value>(j, keys, half, j == vector && next != first ? next : -1);
      });
    }
    pair_values(half, (most + 1) / 2);
    for (int j = vector; j < vectors_; ++j) {
      this->weigh(j, this->seen(j, first));
      quantize_weights(j, this->seen(j, first), half);
    }
    for (int j = vector; j < vectors_; j += kVectors) {
      with_constant<kVectors>(this->min(kVectors, vectors_ - j), [&](auto count) {
        const int keys = this->seen(j + count.value - 1, first);
        add_values<count.value>(j, (keys + 1) / 2);
      });
    }
  }

 protected:
  using Base = HeadVectors<V, kLatentTile>;
  using Base::kKeys;
  using Base::kVectors;
  using Base::p_;
  using Base::vectors_;
  static constexpr int kHalf = kAttentionTile;
  static constexpr int kPairs = kLatentTile / 2;

  LatentInLanes(const AttentionParams& p, const LatentScratch& at)
      : Base(p, p.scratch + at.scores, p.scratch + at.output, p.scratch + at.total),
        groups_{p.key_dim, p.value_dim},
        q_(p.scratch + at.q),
        q_scales_(p.scratch + at.q_scales),
        integers_(p.scratch + at.weights),
        integer_scales_(p.scratch + at.weight_scales),
        values_(p.scratch + at.values) {
    float* columns = p.scratch + at.columns;
    for (int j = 0; j < vectors_; ++j) {
      this->load_queries(j, columns);
      quantize_queries<V, I>(columns, groups_, q_ + j * q_stride(),
                             q_scales_ + j * q_scale_stride());
    }
  }

  // The tile's two tiles of the cache; the second is any where none of its keys is seen.
  void halves(int first, int count, LatentTile<const std::byte> (&half)[2]) const {
    half[0] = {tile_at(p_, first).keys, p_.key_dim};
    half[1] = count > kHalf
                  ? LatentTile<const std::byte>{tile_at(p_, first + kHalf).keys, p_.key_dim}
                  : half[0];
  }

  // Scores of kCount vectors and the first `count` keys or some more. From `next` on, unless
  // negative, lies what will be read soon.
  template <int kCount>
  void score(int vector, int count, const LatentTile<const std::byte> (&half)[2], int next) {
    LatentTile<const std::byte> upcoming = {nullptr, p_.key_dim};
    if (next >= 0) upcoming.data = tile_at(p_, next).keys;
    for (int g = 0; g < groups_.count(); ++g) {
      const int begin = groups_.begin(g);
      for (int key = 0; key < count; key += kKeys) {
        const auto& tile = half[key / kHalf];
        const int row = key % kHalf;
        if (next >= 0 && key < kHalf)
          prefetch(upcoming.row(row) + 2 * begin, groups_.end(g) - begin);
        score_group<V, I, kCount, kKeys>(
            {.q = q_ + vector * q_stride() + begin * 8,
             .q_scales = q_scales_ + vector * q_scale_stride() + g * 16,
             .q_stride = q_stride(),
             .q_scale_stride = q_scale_stride(),
             .keys = tile.row(row) + 2 * begin,
             .key_scales = tile.scales(g) + 4 * row,
             .key_stride = 2 * p_.key_dim,
             .columns = groups_.end(g) - begin,
             .first = g == 0,
             .scores = this->weights(vector) + key * 16});
      }
    }
  }
  void prefetch(const std::byte* rows, int columns) const {
    for (int i = 0; i < kKeys; ++i, rows += 2 * p_.key_dim) {
      for (int at = 0; at < 2 * columns; at += 64) __builtin_prefetch(rows + at, 0, 2);
    }
  }

  // The values of two neighbouring keys each, side by side.
  void pair_values(const LatentTile<const std::byte> (&half)[2], int pairs) {
    float* out = values_;
    for (int column = 0; column < p_.value_dim; column += 16, out += kPairs * 16) {
      for (int pair = 0; pair < pairs; ++pair) {
        const auto& tile = half[pair / (kHalf / 2)];
        const std::byte* row = tile.row(2 * pair % kHalf) + 2 * column;
        I::load_pairs(row, row + 2 * p_.key_dim).store(out + pair * 16);
      }
    }
  }

  // Weights of the first `count` keys -> pairs of integers for each group, zeros behind them.
  void quantize_weights(int vector, int count, const LatentTile<const std::byte> (&half)[2]) {
    const float* weights = this->weights(vector);
    for (int g = 0; g < groups_.of_values(); ++g) {
      const auto weight = [&](int key) {
        float scale;
        std::memcpy(&scale, half[key / kHalf].scales(g) + 4 * (key % kHalf), sizeof scale);
        return V::load(weights + key * 16) * V::broadcast(scale);
      };
      V maximum = V::zero();
      for (int key = 0; key < count; ++key) maximum = V::max(weight(key), maximum);
      const V inverse = inverse_scale(maximum, kLatentWeight);
      (maximum / V::broadcast(kLatentWeight))
          .store(integer_scales_ + (vector * groups_.of_values() + g) * 16);
      const auto integer = [&](int key) {
        return round_bounded<V, I>(weight(key) * inverse, 0.0F);
      };
      float* out = integers(vector, g);
      int pair = 0;
      for (; 2 * pair + 1 < count; ++pair) {
        I::pair(integer(2 * pair), integer(2 * pair + 1)).store(out + pair * 16);
      }
      if (2 * pair < count) {
        I::pair(integer(2 * pair), I::zero()).store(out + pair * 16);
        ++pair;
      }
      for (; pair < kPairs; ++pair) I::zero().store(out + pair * 16);
    }
  }

  template <int kCount>
  void add_values(int vector, int pairs) {
    constexpr int kColumns = V::kAccumulators / kCount;  // divides 16, as the width does
    for (int c = 0; c < p_.value_dim; c += kColumns) {
      const int g = c / kLatentGroup;
      add_latent_columns<V, I, kCount, kColumns>(
          {.weights = integers(vector, g),
           .scales = integer_scales_ + (vector * groups_.of_values() + g) * 16,
           .factors = this->factor_ + 16 * vector,
           .weight_stride = integers(1, 0) - integers_,
           .scale_stride = groups_.of_values() * 16,
           .values = values_ + c / 16 * kPairs * 16 + c % 16,
           .pairs = pairs,
           .output = this->output_of(vector) + c * 16,
           .output_stride = this->output_stride()});
    }
  }

  int64_t q_stride() const { return int64_t{8} * p_.key_dim; }
  int64_t q_scale_stride() const { return groups_.count() * 16; }
  float* integers(int vector, int group) {
    return integers_ + (vector * groups_.of_values() + group) * kPairs * 16;
  }

  LatentGroups groups_;
  float* q_;               // pairs [vectors][D / 2][16]
  float* q_scales_;        // [vectors][groups][16]
  float* integers_;        // pairs of weights [vectors][value groups][32][16]
  float* integer_scales_;  // [vectors][value groups][16]
  float* values_;          // pairs [Dv / 16][32][16]
};

}  // namespace tandem::cpu::lanes
