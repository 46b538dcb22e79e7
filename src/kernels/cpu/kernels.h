// The table of CPU leaf functions: single-threaded, no allocation, raw pointers with shapes. One
// table per instruction set; select() picks one at start. Every entry of every table gives the same
// bits as quant/reference.h and the generic table. Orchestration (threads, experts, tokens) lives
// in ops/ and moe/, once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/dtype.h"
#include "quant/types.h"

namespace tandem::cpu {

// y[t, n] = sum over k of x[x_row(t), k] * w[n, k] for n in [0, n), t in [0, t).
struct LinearParams {
  const std::byte* w;  // [n, k]: panels of 16 rows where quant::has_panels(type), else rows
  int64_t w_stride;    // bytes from a panel (or row) to the next
  const std::byte* x;  // activation rows in the weight type's format, x_stride bytes apart
  int64_t x_stride;
  const int32_t* x_rows;  // [t] which row of x each token reads, or null for 0, 1, ...
  float* y;               // [t, n] f32, rows y_stride floats apart
  int64_t y_stride;
  int n;
  int k;
  int t;
  // How far ahead of the products weights are asked for (Table::prefetch_bytes); tiles of many
  // tokens ask for more on their own.
  int64_t prefetch_bytes = 0;
};
using LinearFn = void (*)(const LinearParams&);

// 1 to 16 rows of k elements, row_stride bytes apart -> a panel, as quant::pack_panel.
struct PackParams {
  const std::byte* rows;
  int64_t row_stride;
  int count;
  int64_t k;
  std::byte* panel;
};
using PackFn = void (*)(const PackParams&);

// Floats -> activations: rows of k floats (a multiple of the block).
using QuantizeFn = void (*)(const float* x, std::byte* out, int64_t k);

// y[i] = x[i] * weight[i] / sqrt(mean(x^2) + epsilon); y may be x.
struct RmsNormParams {
  const float* x;       // [n]
  const float* weight;  // [n]
  float* y;             // [n]
  int64_t n;
  float epsilon;
};

// Attention of a block: some tokens of one sequence that follow each other, each with some heads
// that share a key/value head. A token sees the keys up to its own position.
//
// Definition, for one query. Every step is one chain of scalar operations, so a kernel may put
// queries, keys or columns into its lanes and gives the same bits:
//  - score of a key = (fma over the dimensions in order, starting from 0) * scale
//  - the sequence's keys fall into spans of attention_span(number of keys), a span into tiles of
//    kAttentionTile; both are counted from the sequence's start
//  - within a span, tile by tile (online softmax, Milakov & Gimelshein 2018), starting from
//    maximum -infinity and zeros: m = max(maximum, scores), c = exp(maximum - m),
//    p_i = exp(score_i - m), sum = fma(sum, c, tree of p_i), each column of the output = output *
//    c, then fma(p_i, value_i, output) in the order of keys. Keys that are not seen take no part.
//    The tree: p_i + p_(i+16), then i and i+8, i+4, i+2, i+1.
//  - spans in order: the first is the total; with m = max of both maxima, a = exp(total's - m) and
//    b = exp(span's - m), total = fma(total, a, span * b) for the sum and each column
//  - output * (1 / sum)
//
//   q [tokens, heads, key_dim] f32, tokens q_token_stride floats apart. A page of the cache holds
//   tiles of 32 tokens, k_tile_stride and v_tile_stride bytes apart, and in one
//     keys [key_dim, 32]     one key in each column
//     values [32, value_dim]
//   or, where k == v (multi-head latent attention: values are the first columns of keys),
//     keys [32, key_dim] of float32, or integers with scales, which have a definition of their own
//     in kernels/cpu/latent.h
inline constexpr int kAttentionTile = 32;
// Queries of a block at most. They share one widening of a tile to floats, which then costs 2 % of
// the arithmetic; and their outputs stay in a core's own cache.
inline constexpr int kAttentionQueries = 64;
// Spans of a sequence at most: what one long sequence can be split into for threads.
inline constexpr int kAttentionSpans = 16;
// The tokens of a block lie between two multiples of this position, the shortest span, so that they
// have the same spans.
inline constexpr int kAttentionAlignment = 64;
int attention_span(int num_keys);

struct AttentionParams {
  const float* q;
  int64_t q_token_stride;
  const std::byte* k;  // page 0's first tile of the key/value head; kv_dtype
  const std::byte* v;
  float* out;  // [tokens, heads, value_dim] f32, tokens out_token_stride floats apart
  int64_t out_token_stride;
  float* partial;  // null, or takes the result of one span instead of out: [tokens, heads, row]
                   // with rows of attention_partial_floats: output, maximum, sum
  int span;        // with partial
  float* scratch;  // attention_scratch_floats(...) floats, aligned to 64 bytes
  const int32_t* pages;  // the sequence's page numbers
  int64_t page_stride;   // bytes from a page to the next
  int64_t k_tile_stride;
  int64_t v_tile_stride;
  int page_size;   // tokens in a page, a multiple of kAttentionTile
  int first_keys;  // number of keys that the first token sees; each further token sees one more
  int tokens;
  int heads;  // tokens * heads <= kAttentionQueries; for k == v with heads rounded up to 16
  int key_dim;
  int value_dim;  // a multiple of 16; so is key_dim
  float scale;
  DType kv_dtype;  // kF32, kF16 or kBF16; for k == v kF32 or kI16
};
int64_t attention_scratch_floats(int key_dim, int value_dim);
int64_t attention_partial_floats(int value_dim);

// A row of multi-head latent attention -> its place in a tile of kI16.
struct LatentStoreParams {
  const float* x;   // [key_dim]
  std::byte* tile;  // latent_tile_bytes(key_dim, value_dim)
  int in_tile;      // key of the tile
  int key_dim;
  int value_dim;
};

// Brings a query's spans together.
struct AttentionMergeParams {
  const float* partial;  // span 0's row of the query
  int64_t span_stride;   // floats
  int spans;
  int value_dim;
  float* out;  // [value_dim]
};

// Rotates each head's pairs (a, b) to (a cos - b sin, a sin + b cos), in place.
struct RopeParams {
  float* x;  // heads, head_stride floats apart
  int64_t head_stride;
  int heads;
  int dims;            // rotated, even
  bool interleaved;    // pairs are (2 i, 2 i + 1); else (i, i + dims / 2)
  const float* table;  // interleaved: (cos, sin) of each pair; else all cos, then all sin
};

struct Table {
  std::string_view name;   // "generic", "avx2", "avxvnni", "avx512", "amx"
  bool supported;          // by this machine; all other fields are null where it is not
  int64_t prefetch_bytes;  // of products that are bound by memory, on this machine
  std::array<LinearFn, kDTypeLimit> linear;  // null where the type has no kernel
  std::array<PackFn, kDTypeLimit> pack;      // null where the type has no panels
  QuantizeFn quantize_a32;
  QuantizeFn quantize_a256;
  void (*rms_norm)(const RmsNormParams&);
  void (*silu_mul)(const float* gate, const float* up, float* out, int64_t n);  // silu(gate) * up
  void (*add)(const float* a, const float* b, float* out, int64_t n);
  void (*multiply_add)(const float* x, float factor, float* y, int64_t n);  // y = fma(factor, x, y)
  void (*softmax)(float* x, int64_t n);                                     // in place
  void (*sigmoid)(float* x, int64_t n);                                     // in place
  void (*rope)(const RopeParams&);
  void (*attention)(const AttentionParams&);
  void (*merge_attention)(const AttentionMergeParams&);
  // Float -> cache type, nearest even: n values, a multiple of 16, as a row, or as a column of a
  // tile [n, kAttentionTile].
  void (*store_kv)(const float* x, std::byte* out, int64_t n, DType kv_dtype);
  void (*store_kv_column)(const float* x, std::byte* out, int64_t n, DType kv_dtype);
  void (*store_latent)(const LatentStoreParams&);
  // Measures the machine, not a model: `rounds` rounds of independent int8 products from registers,
  // as fast as the instruction set has them. Returns how many multiply-adds that were.
  int64_t (*peak_products)(int64_t rounds);
};

// All tables of this binary, slowest first, unsupported ones included.
std::span<const Table> tables();
// The named table, or the best supported one for an empty name. Throws Error for an unknown or
// unsupported name.
const Table& select(std::string_view name = {});

}  // namespace tandem::cpu
