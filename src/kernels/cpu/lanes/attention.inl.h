// Paged attention of the heads that share a key/value head, for one token, over an instruction
// set's Vec16.
//
// Keys are walked in tiles of kAttentionTile from the sequence's start; a running maximum, sum and
// output per head are rescaled once per tile (online softmax, Milakov & Gimelshein 2018). A tile
// never crosses a page.
//
//   scratch: key tile [32, key_dim] | value tile [32, value_dim] (MLA: the key tile's first
//   columns) | maximum [heads] | sum [heads]
#pragma once

#include <limits>

#include "kernels/cpu/lanes/elementwise.inl.h"

namespace tandem::cpu::lanes {

// Rows of the cache -> floats, rows dim floats apart.
template <typename V>
inline void widen_tile(const std::byte* first, int64_t token_stride, int keys, int dim, DType dtype,
                       float* tile) {
  for (int key = 0; key < keys; ++key) {
    const std::byte* row = first + key * token_stride;
    for (int i = 0; i < dim; i += 16) load_kv<V>(row, i, dtype).store(tile + key * dim + i);
  }
}

// scores[key] = scale * (q . k[key]); four keys at a time hide the latency of fma, and change no
// bit.
template <typename V>
inline void score_tile(const float* q, const float* tile, int keys, int dim, float scale,
                       float* scores) {
  int key = 0;
  for (; key + 4 <= keys; key += 4) {
    const float* row = tile + key * dim;
    V a = V::zero(), b = V::zero(), c = V::zero(), d = V::zero();
    for (int i = 0; i < dim; i += 16) {
      const V query = V::load(q + i);
      a = V::fma(query, V::load(row + i), a);
      b = V::fma(query, V::load(row + dim + i), b);
      c = V::fma(query, V::load(row + 2 * dim + i), c);
      d = V::fma(query, V::load(row + 3 * dim + i), d);
    }
    scores[key] = a.sum() * scale;
    scores[key + 1] = b.sum() * scale;
    scores[key + 2] = c.sum() * scale;
    scores[key + 3] = d.sum() * scale;
  }
  for (; key < keys; ++key) {
    V a = V::zero();
    for (int i = 0; i < dim; i += 16) {
      a = V::fma(V::load(q + i), V::load(tile + key * dim + i), a);
    }
    scores[key] = a.sum() * scale;
  }
}

// out = out * factor + sum over keys of weight[key] * tile[key], keys in order.
template <typename V, int kGroups>
inline void accumulate_columns(const float* weights, const float* tile, int keys, int stride,
                               float factor, float* out) {
  V acc[kGroups];
  const V f = V::broadcast(factor);
  for (int g = 0; g < kGroups; ++g) acc[g] = V::load(out + 16 * g) * f;
  for (int key = 0; key < keys; ++key) {
    const V w = V::broadcast(weights[key]);
    for (int g = 0; g < kGroups; ++g) {
      acc[g] = V::fma(w, V::load(tile + key * stride + 16 * g), acc[g]);
    }
  }
  for (int g = 0; g < kGroups; ++g) acc[g].store(out + 16 * g);
}

template <typename V>
void attention(const AttentionParams& p) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const bool shared_rows = p.v == p.k;  // MLA: values are the first columns of the keys
  float* key_tile = p.scratch;
  float* value_tile = shared_rows ? key_tile : key_tile + kAttentionTile * p.key_dim;
  const int value_stride = shared_rows ? p.key_dim : p.value_dim;
  float* maximum = p.scratch + kAttentionTile * (p.key_dim + p.value_dim);
  float* sum = maximum + p.heads;
  for (int h = 0; h < p.heads; ++h) {
    maximum[h] = kMinusInfinity;
    sum[h] = 0.0F;
  }
  for (int i = 0; i < p.heads * p.value_dim; i += 16) V::zero().store(p.out + i);

  for (int first = 0; first < p.num_keys; first += kAttentionTile) {
    const int keys = p.num_keys - first < kAttentionTile ? p.num_keys - first : kAttentionTile;
    const int64_t page = p.pages[first / p.page_size] * p.page_stride;
    const int64_t offset = first % p.page_size;
    widen_tile<V>(p.k + page + offset * p.k_token_stride, p.k_token_stride, keys, p.key_dim,
                  p.kv_dtype, key_tile);
    if (!shared_rows) {
      widen_tile<V>(p.v + page + offset * p.v_token_stride, p.v_token_stride, keys, p.value_dim,
                    p.kv_dtype, value_tile);
    }
    for (int h = 0; h < p.heads; ++h) {
      float weights[kAttentionTile];
      for (int i = 0; i < kAttentionTile; ++i) weights[i] = kMinusInfinity;
      score_tile<V>(p.q + h * p.key_dim, key_tile, keys, p.key_dim, p.scale, weights);

      const V low = V::load(weights);
      const V high = V::load(weights + 16);
      const float tile_maximum = V::max(low, high).maximum();
      const float new_maximum = tile_maximum > maximum[h] ? tile_maximum : maximum[h];
      const V shift = V::broadcast(new_maximum);
      const V e_low = exp(low - shift);
      const V e_high = exp(high - shift);
      e_low.store(weights);
      e_high.store(weights + 16);
      float correction[16];
      exp(V::broadcast(maximum[h]) - shift).store(correction);
      sum[h] = sum[h] * correction[0] + (e_low + e_high).sum();
      maximum[h] = new_maximum;

      float* out = p.out + h * p.value_dim;
      int column = 0;
      for (; column + 64 <= p.value_dim; column += 64) {
        accumulate_columns<V, 4>(weights, value_tile + column, keys, value_stride, correction[0],
                                 out + column);
      }
      for (; column < p.value_dim; column += 16) {
        accumulate_columns<V, 1>(weights, value_tile + column, keys, value_stride, correction[0],
                                 out + column);
      }
    }
  }
  for (int h = 0; h < p.heads; ++h) {
    const V factor = V::broadcast(1.0F / sum[h]);
    float* out = p.out + h * p.value_dim;
    for (int i = 0; i < p.value_dim; i += 16) (V::load(out + i) * factor).store(out + i);
  }
}

}  // namespace tandem::cpu::lanes
