// On the CPU the single operators in their order.
#include "ops/prepared_attention.h"

#include "ops/elementwise.h"
#include "ops/gpu.h"

namespace tandem::ops {

void grouped_attention(Context& ctx, const KvLayer& layer, const PagedTokens& where,
                       const GroupedProjections& in, Features out) {
  if (ctx.gpu != nullptr) {
    const Profile::Scope timed(ctx.profile, Op::kAttention);
    return ctx.gpu->grouped_attention(layer, in, out);
  }
  const int64_t dim = layer.key_dim, tokens = where.tokens;
  const auto rotate = [&](float* x, const Tensor& norm, int64_t heads) {
    if (norm) rms_norm(ctx, {x, dim}, tokens * heads, norm, in.epsilon, {x, dim});
    rope(ctx, in.rotations.config, in.rotations.table, {x, heads * dim, dim}, tokens, heads);
  };
  rotate(in.q, in.q_norm, in.heads);
  rotate(in.k, in.k_norm, layer.kv_heads);
  append_kv(ctx, layer, where, in.k, in.v);
  attention(ctx, layer, where, in.q, in.heads, in.scale, out.f32);
}

void latent_attention(Context& ctx, const KvLayer& layer, const PagedTokens& where,
                      const LatentProjections& in, Features out) {
  if (ctx.gpu != nullptr) {
    const Profile::Scope timed(ctx.profile, Op::kAttention);
    return ctx.gpu->latent_attention(ctx.workspace, layer, in, out);
  }
  const int64_t tokens = where.tokens, row = layer.key_dim, rank = layer.value_dim;
  const int64_t head_dim = in.nope + row - rank;
  const HeadsView nope = {in.q.f32, in.heads * head_dim, head_dim};
  const HeadsView rotated = {in.q.f32 + in.nope, in.heads * head_dim, head_dim};
  Workspace::Scope scope(ctx.workspace);
  float* query =
      scope.floats(static_cast<size_t>(tokens * in.heads * row));  // [T, H, kv_lora + rope]

  const Rotations& r = in.rotations;
  rms_norm(ctx, {in.kv, row}, tokens, in.kv_norm, in.epsilon, {in.kv, row});
  rope(ctx, r.config, r.table, {in.kv + rank, row, 0}, tokens, 1);
  rope(ctx, r.config, r.table, rotated, tokens, in.heads);

  linear_per_head(ctx, nope, tokens, in.k_b, {query, in.heads * row, row});
  copy_columns(ctx, rotated, {query + rank, in.heads * row, row}, tokens, in.heads, row - rank);
  append_kv(ctx, layer, where, in.kv, nullptr);
  attention(ctx, layer, where, query, in.heads, in.scale, out.f32);
}

size_t latent_attention_bytes(int64_t tokens, int64_t heads, const KvLayer& layer) {
  return Workspace::aligned(static_cast<size_t>(tokens * heads * layer.key_dim) * sizeof(float));
}

}  // namespace tandem::ops
