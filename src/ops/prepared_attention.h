// Attention from its projections on: norms of heads, rotation, the cache's append, attention
// itself. One operator each, because a GPU does what stands before attention in one or two kernels.
#pragma once

#include <cstdint>

#include "base/tensor.h"
#include "ops/attention.h"
#include "ops/rope.h"

namespace tandem::ops {

struct Rotations {
  const RopeConfig& config;
  const float* table;  // [T, config.dims], as fill_rope_table() fills it
};

struct GroupedProjections {
  float* q;              // [T, H, key_dim] overwritten
  float* k;              // [T, Hk, key_dim] overwritten
  float* v;              // [T, Hk, value_dim]
  const Tensor& q_norm;  // [key_dim] of each head, or none
  const Tensor& k_norm;  // [key_dim] of each head, or none
  float epsilon;
  Rotations rotations;  // of the first columns of queries and keys
  int64_t heads;        // H
  float scale;
};
// Grouped-query attention. out: [T, H, value_dim]
void grouped_attention(Context& ctx, const KvLayer& layer, const PagedTokens& where,
                       const GroupedProjections& in, Features out);

struct LatentProjections {
  Features q;             // [T, H, nope + rope] overwritten
  float* kv;              // [T, kv_lora + rope] overwritten
  const Tensor& kv_norm;  // [kv_lora]
  const Tensor& k_b;      // [H, kv_lora, nope] takes queries into the cache's space
  float epsilon;
  Rotations rotations;  // of the rope part
  int64_t heads;        // H
  int64_t nope;
  float scale;
};
// Multi-head latent attention in its absorbed form. out: [T, H, kv_lora]
void latent_attention(Context& ctx, const KvLayer& layer, const PagedTokens& where,
                      const LatentProjections& in, Features out);
// Scratch that latent_attention() takes beside that of the operators it is made of.
size_t latent_attention_bytes(int64_t tokens, int64_t heads, const KvLayer& layer);

}  // namespace tandem::ops
