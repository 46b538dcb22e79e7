// Paged attention over an instruction set's Vec16: the walk over spans and tiles, and how spans
// come together. The definition is in kernels.h; the work inside a tile in attention_keys.inl.h and
// attention_queries.inl.h.
#pragma once

#include "kernels/cpu/lanes/attention_latent.inl.h"

namespace tandem::cpu::lanes {

// What total and span are multiplied with when they come together.
template <typename V>
struct MergeFactors {
  V total, span;
};

// Brings together the maxima and sums of 16 queries.
template <typename V>
inline MergeFactors<V> merge_sums(V span_maximum, V span_sum, V& maximum, V& sum) {
  const V highest = V::max(span_maximum, maximum);
  const MergeFactors<V> factors = {exp_bounded(maximum - highest),
                                   exp_bounded(span_maximum - highest)};
  maximum = highest;
  sum = V::fma(sum, factors.total, span_sum * factors.span);
  return factors;
}

template <typename V>
inline void copy_scaled(const float* from, V factor, float* out, int width) {
  for (int i = 0; i < width; i += 16) (V::load(from + i) * factor).store(out + i);
}

// The spans of a block's queries that came together so far. Lanes are those of the tiles.
template <typename V>
struct AttentionTotal {
  alignas(64) float maximum[kAttentionQueries], sum[kAttentionQueries];
  alignas(64) float total_factor[kAttentionQueries], span_factor[kAttentionQueries];

  void begin(const float* span_maximum, const float* span_sum) {
    for (int i = 0; i < kAttentionQueries; i += 16) {
      V::load(span_maximum + i).store(maximum + i);
      V::load(span_sum + i).store(sum + i);
    }
  }
  void merge(const float* span_maximum, const float* span_sum) {
    for (int i = 0; i < kAttentionQueries; i += 16) {
      V m = V::load(maximum + i), s = V::load(sum + i);
      const MergeFactors<V> factors =
          merge_sums(V::load(span_maximum + i), V::load(span_sum + i), m, s);
      m.store(maximum + i);
      s.store(sum + i);
      factors.total.store(total_factor + i);
      factors.span.store(span_factor + i);
    }
  }
};

// Brings a span's result together with those before it and, after the last, takes all to where it
// belongs.
template <typename V, typename Tiles>
void end_span(const AttentionParams& p, Tiles& tiles, bool first, bool last,
              AttentionTotal<V>& total) {
  if (first) {
    total.begin(tiles.maximum(), tiles.sum());
  } else {
    total.merge(tiles.maximum(), tiles.sum());
  }
  tiles.merge_span(first, total.total_factor, total.span_factor);
  if (!last) return;
  tiles.finish();
  for (int t = 0; t < p.tokens; ++t) {
    for (int h = 0; h < p.heads; ++h) {
      const int lane = tiles.lane(t, h);
      if (p.partial != nullptr) {
        float* row = p.partial + int64_t{t * p.heads + h} * (p.value_dim + 16);
        copy_scaled(tiles.output(lane), V::broadcast(1.0F), row, p.value_dim);
        row[p.value_dim] = total.maximum[lane];
        row[p.value_dim + 1] = total.sum[lane];
      } else {
        copy_scaled(tiles.output(lane), V::broadcast(1.0F / total.sum[lane]),
                    p.out + t * p.out_token_stride + int64_t{h} * p.value_dim, p.value_dim);
      }
    }
  }
}

template <typename V, typename Tiles>
void attention_over(const AttentionParams& p) {
  Tiles tiles(p);
  AttentionTotal<V> total;
  const int keys = p.first_keys + p.tokens - 1;  // that the last token sees
  const int span_keys = attention_span(keys);
  const int first_span = p.partial != nullptr ? p.span : 0;
  const int end = p.partial != nullptr ? p.span + 1 : (keys - 1) / span_keys + 1;
  for (int span = first_span; span < end; ++span) {
    tiles.start_span();
    const int span_end = keys < (span + 1) * span_keys ? keys : (span + 1) * span_keys;
    for (int first = span * span_keys; first < span_end; first += Tiles::kTileKeys) {
      tiles.add_tile(first, first + Tiles::kTileKeys < keys ? first + Tiles::kTileKeys : first);
    }
    end_span(p, tiles, span == first_span, span + 1 == end, total);
  }
}

template <typename V, typename I>
void attention(const AttentionParams& p) {
  if (p.kv_dtype == DType::kI16) {
    attention_over<V, LatentInLanes<V, I>>(p);
  } else if (p.v == p.k) {
    attention_over<V, QueriesInLanes<V>>(p);
  } else {
    attention_over<V, KeysInLanes<V>>(p);
  }
}

template <typename V>
void merge_attention(const AttentionMergeParams& p) {
  const float* row = p.partial;
  V maximum = V::broadcast(row[p.value_dim]), sum = V::broadcast(row[p.value_dim + 1]);
  copy_scaled(row, V::broadcast(1.0F), p.out, p.value_dim);
  for (int span = 1; span < p.spans; ++span) {
    row += p.span_stride;
    const MergeFactors<V> factors = merge_sums(V::broadcast(row[p.value_dim]),
                                               V::broadcast(row[p.value_dim + 1]), maximum, sum);
    merge_output(row, factors.total, factors.span, p.out, p.value_dim);
  }
  copy_scaled(p.out, V::broadcast(1.0F) / sum, p.out, p.value_dim);
}

}  // namespace tandem::cpu::lanes
