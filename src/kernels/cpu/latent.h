// Multi-head latent attention on exact integers: its definition, the layout of its cache and of its
// scratch memory.
//
// A cached row holds values (the compressed part) and behind them the rotated key part; a value is
// the first value_dim columns of its key. Columns fall into groups of kLatentGroup, each part on
// its own, the last group of a part may be shorter. A group of a row is integers k with one scale
// s, as activations are quantised (quant/activation.h): m = max |x|, s = m / h, k = nearest even of
// x * (h / m), with h = kLatentHighest. A query is quantised the same way, to integers t and
// scales r.
//
// Definition, for one query, where it differs from that in kernels.h:
//  - score of a key = (fma over the groups in order, starting from 0, of the exact sum of t * k,
//    as a float, and r * s) * scale
//  - tiles of kLatentTile keys; the tree of p_i begins with i and i + 32
//  - for each group of the values, over the tile's keys that are seen: w_i = p_i * s_i, m = max of
//    w_i, W_i = nearest even of w_i * (h / m) with h = kLatentWeight, 0 where m is too small; each
//    column of the output = fma(the exact sum of W_i * k_i, as a float, m / h, output * c)
//
// Sums over a group and over a tile stay below 2^31: 128 * 4095^2 and 64 * 8191 * 4095. With 13
// bits and groups of 128 a model strays from its float32 outputs as far as with a cache of halves
// (docs/decisions/0006-integer-mla-attention.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::cpu {

inline constexpr int kLatentGroup = 128;
inline constexpr int kLatentHighest = 4095;
inline constexpr int kLatentWeight = 8191;
inline constexpr int kLatentTile = 64;  // two tiles of the cache
static_assert(int64_t{kLatentGroup} * kLatentHighest * kLatentHighest < int64_t{1} << 31);
static_assert(int64_t{kLatentTile} * kLatentWeight * kLatentHighest < int64_t{1} << 31);

// The groups of a row: those of the values, then those of the rest.
struct LatentGroups {
  int key_dim;
  int value_dim;

  constexpr int of_values() const { return (value_dim + kLatentGroup - 1) / kLatentGroup; }
  constexpr int count() const {
    return of_values() + (key_dim - value_dim + kLatentGroup - 1) / kLatentGroup;
  }
  // Pieces of 64 columns, none across groups.
  constexpr int steps() const {
    int n = 0;
    for (int g = 0; g < count(); ++g) n += (end(g) - begin(g) + 63) / 64;
    return n;
  }
  constexpr int begin(int group) const {
    return group < of_values() ? group * kLatentGroup
                               : value_dim + (group - of_values()) * kLatentGroup;
  }
  constexpr int end(int group) const {
    const int part_end = group < of_values() ? value_dim : key_dim;
    const int full = begin(group) + kLatentGroup;
    return full < part_end ? full : part_end;
  }
};

// A tile of the cache: k int16 [kAttentionTile, key_dim] | s f32 [groups, kAttentionTile].
template <typename Byte>
struct LatentTile {
  Byte* data;
  int64_t key_dim;

  static constexpr int kKeys = 32;
  Byte* row(int64_t key) const { return data + key * key_dim * 2; }
  Byte* scales(int64_t group) const { return data + (key_dim + 2 * group) * kKeys * 2; }
};
constexpr int64_t latent_tile_bytes(int key_dim, int value_dim) {
  return int64_t{32} * (2 * key_dim + 4 * LatentGroups{key_dim, value_dim}.count());
}

// Where the parts of a call's scratch memory begin, in floats; integers take their places.
struct LatentScratch {
  int64_t q, q_scales, columns, scores, weights, weight_scales, values, output, total, q_tiles,
      key_planes, end;

  constexpr LatentScratch(int key_dim, int value_dim) {
    constexpr int64_t kQueries = 64;
    const LatentGroups groups = {key_dim, value_dim};
    q = 0;                                           // pairs [4][D / 2][16]
    q_scales = q + kQueries / 2 * key_dim;           // [4][groups][16]
    columns = q_scales + kQueries * groups.count();  // [D][16]
    scores = columns + int64_t{16} * key_dim;        // [4][64][16]
    weights = scores + kQueries * kLatentTile;       // pairs [4][value groups][32][16]
    weight_scales = weights + kQueries / 2 * kLatentTile * groups.of_values();
    values = weight_scales + kQueries * groups.of_values();  // pairs [Dv / 16][32][16]
    output = values + int64_t{kLatentTile} / 2 * value_dim;  // [4][Dv][16]
    total = output + kQueries * value_dim;                   // [4][Dv][16]
    q_tiles = total + kQueries * value_dim;  // for tile registers: bytes, 2 planes of tiles
    key_planes = q_tiles + kQueries / 2 * 64 * groups.steps();  // and 2 planes [64][64 steps]
    end = key_planes + int64_t{kLatentTile} / 2 * 64 * groups.steps();
  }
};

}  // namespace tandem::cpu
