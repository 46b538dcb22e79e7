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

// Attention of some heads that share one key/value head, for one token, over keys 0 .. num_keys-1
// of its sequence. Softmax is online over tiles of kAttentionTile keys counted from the sequence's
// start, so the bits depend on nothing but the keys.
inline constexpr int kAttentionTile = 32;
struct AttentionParams {
  const float* q;          // [heads, key_dim] f32
  const std::byte* k;      // page 0's first key of this key/value head; kv_dtype
  const std::byte* v;      // page 0's first value; for MLA the same memory as k
  float* out;              // [heads, value_dim] f32
  float* scratch;          // attention_scratch_floats(...) floats
  const int32_t* pages;    // the sequence's page numbers
  int64_t page_stride;     // bytes from a page to the next
  int64_t k_token_stride;  // bytes from a token's key to the next token's in a page
  int64_t v_token_stride;
  int page_size;  // tokens in a page, a multiple of kAttentionTile
  int num_keys;   // > 0
  int heads;
  int key_dim;
  int value_dim;
  float scale;
  DType kv_dtype;  // kF32, kF16 or kBF16
};
int64_t attention_scratch_floats(int heads, int key_dim, int value_dim);

struct Table {
  std::string_view name;  // "generic", "avx2", "avxvnni", "avx512"
  bool supported;         // by this machine; all other fields are null where it is not
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
  void (*attention)(const AttentionParams&);
  void (*store_kv)(const float* x, std::byte* out, int64_t n,
                   DType kv_dtype);  // float -> cache type, nearest even
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
