// The split of attention into single-threaded pieces: a token, a key/value head and some of its
// query heads.
#include "ops/attention.h"

#include <algorithm>

namespace tandem::ops {
namespace {

// Query heads of one piece at most. They share the widening of a key tile to floats; more pieces
// feed more threads.
constexpr int64_t kHeadsPerPiece = 8;

int64_t element_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

int64_t key_row_bytes(const KvLayer& l) {
  return int64_t{l.kv_heads} * l.key_dim * element_bytes(l.dtype);
}
int64_t value_row_bytes(const KvLayer& l) {
  return l.shared_values ? 0 : int64_t{l.kv_heads} * l.value_dim * element_bytes(l.dtype);
}

}  // namespace

int64_t kv_page_bytes(const KvLayer& layer) {
  return layer.page_size * (key_row_bytes(layer) + value_row_bytes(layer));
}

void append_kv(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* k,
               const float* v) {
  const int64_t k_width = int64_t{layer.kv_heads} * layer.key_dim;
  const int64_t v_width = int64_t{layer.kv_heads} * layer.value_dim;
  ctx.pool.parallel_for(where.tokens, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t position = where.positions[t];
      const int64_t slot = position % layer.page_size;
      std::byte* page = layer.data + where.pages[t][position / layer.page_size] * layer.page_bytes;
      ctx.cpu.store_kv(k + t * k_width, page + slot * key_row_bytes(layer), k_width, layer.dtype);
      if (layer.shared_values) continue;
      std::byte* values = page + layer.page_size * key_row_bytes(layer);
      ctx.cpu.store_kv(v + t * v_width, values + slot * value_row_bytes(layer), v_width,
                       layer.dtype);
    }
  });
}

size_t attention_workspace_bytes(const KvLayer& layer, int64_t heads, int threads) {
  const int64_t group = std::min(kHeadsPerPiece, heads / layer.kv_heads);
  const int64_t floats =
      cpu::attention_scratch_floats(static_cast<int>(group), layer.key_dim, layer.value_dim);
  return static_cast<size_t>(threads) *
         Workspace::aligned(static_cast<size_t>(floats) * sizeof(float));
}

void attention(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* q,
               int64_t heads, float scale, float* out) {
  const int64_t group = heads / layer.kv_heads;  // query heads of a key/value head
  const int64_t piece = std::min(kHeadsPerPiece, group);
  const int64_t pieces_per_group = (group + piece - 1) / piece;
  const int64_t pieces_per_token = layer.kv_heads * pieces_per_group;
  const int64_t bytes = element_bytes(layer.dtype);
  Workspace::Scope scope(ctx.workspace);
  const int64_t scratch_floats = static_cast<int64_t>(
      Workspace::aligned(static_cast<size_t>(cpu::attention_scratch_floats(
                             static_cast<int>(piece), layer.key_dim, layer.value_dim)) *
                         sizeof(float)) /
      sizeof(float));
  float* scratch = scope.floats(static_cast<size_t>(ctx.pool.size() * scratch_floats));

  // The longest sequences' pieces come last in a chunk of prefill; single pieces keep the end even.
  ctx.pool.parallel_for(
      where.tokens * pieces_per_token, 1, [&](int64_t begin, int64_t end, int worker) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t t = i / pieces_per_token;
          const int64_t kv_head = i % pieces_per_token / pieces_per_group;
          const int64_t first = i % pieces_per_group * piece;  // query head within the group
          const int64_t head = kv_head * group + first;
          const std::byte* keys = layer.data + kv_head * layer.key_dim * bytes;
          const std::byte* values = layer.shared_values
                                        ? keys
                                        : layer.data + layer.page_size * key_row_bytes(layer) +
                                              kv_head * layer.value_dim * bytes;
          ctx.cpu.attention({
              .q = q + (t * heads + head) * layer.key_dim,
              .k = keys,
              .v = values,
              .out = out + (t * heads + head) * layer.value_dim,
              .scratch = scratch + worker * scratch_floats,
              .pages = where.pages[t],
              .page_stride = layer.page_bytes,
              .k_token_stride = key_row_bytes(layer),
              .v_token_stride = layer.shared_values ? key_row_bytes(layer) : value_row_bytes(layer),
              .page_size = layer.page_size,
              .num_keys = where.positions[t] + 1,
              .heads = static_cast<int>(std::min(piece, group - first)),
              .key_dim = layer.key_dim,
              .value_dim = layer.value_dim,
              .scale = scale,
              .kv_dtype = layer.dtype,
          });
        }
      });
}

}  // namespace tandem::ops
