// Attention over the paged key/value cache: append this step's rows, then attend.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/tensor.h"
#include "ops/context.h"
#include "ops/linear.h"

namespace tandem::ops {

// One layer's cache. A page holds keys, then values, in tiles of 32 tokens, each head's on its own:
//   keys [S / 32, Hk, key_dim, 32]   values [S / 32, Hk, 32, value_dim]
// so that the products of queries with a tile's keys and of weights with its values both read it in
// order. With shared_values (MLA) a value is the first value_dim columns of its key, nothing is
// stored twice, and keys lie as rows: [S / 32, Hk, 32, key_dim] of float32, or as integers with
// scales (kI16, kernels/cpu/latent.h).
struct KvLayer {
  std::byte* data;     // page 0
  DType dtype;         // kF32, kF16 or kBF16; with shared_values kF32 or kI16
  int page_size;       // S
  int64_t page_bytes;  // from a page to the next
  int kv_heads;        // Hk
  int key_dim;
  int value_dim;
  bool shared_values;
  Device device = Device::kCpu;  // on the GPU pages lie as kernels/cuda/kv_cache.h says
};

// Where each token of the step stands.
struct PagedTokens {
  int64_t tokens;               // T
  const int32_t* positions;     // [T] in its sequence
  const int32_t* const* pages;  // [T] page numbers of its sequence
};

int64_t kv_page_bytes(const KvLayer& layer);

// Stores k [T, Hk, key_dim] and v [T, Hk, value_dim] (unused with shared_values) at the tokens'
// positions.
void append_kv(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* k,
               const float* v);

// out[t, h] = attention of q[t, h] over its sequence's keys up to its own. q: [T, H, key_dim]
// contiguous; out: [T, H, value_dim] contiguous. f32
void attention(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* q,
               int64_t heads, float scale, float* out);
// Scratch that attention() takes for at most `tokens` tokens.
size_t attention_workspace_bytes(const KvLayer& layer, int64_t tokens, int threads);

}  // namespace tandem::ops
