// The split of attention into single-threaded pieces: a block of tokens, a key/value head and some
// of its query heads, and, where a sequence is long beside the rest of the step, one span of keys.
#include "ops/attention.h"

#include <algorithm>
#include <bit>

#include "kernels/cpu/latent.h"
#include "ops/gpu.h"

namespace tandem::ops {
namespace {

int64_t element_bytes(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// Bytes of one head's tile of keys and of values.
int64_t key_tile_bytes(const KvLayer& l) {
  if (l.dtype == DType::kI16) return cpu::latent_tile_bytes(l.key_dim, l.value_dim);
  return int64_t{cpu::kAttentionTile} * l.key_dim * element_bytes(l.dtype);
}
int64_t value_tile_bytes(const KvLayer& l) {
  return l.shared_values ? 0 : int64_t{cpu::kAttentionTile} * l.value_dim * element_bytes(l.dtype);
}

// A page's values lie behind its keys.
int64_t values_offset(const KvLayer& l) {
  return l.page_size / cpu::kAttentionTile * l.kv_heads * key_tile_bytes(l);
}

// How the query heads of a token and tokens of a sequence make blocks.
struct BlockForm {
  int64_t group;            // query heads of a key/value head
  int64_t heads_per_block;  // of a group
  int64_t blocks_per_group;
  int64_t tokens_per_block;  // a power of two, at most kAttentionAlignment

  int64_t blocks_per_token(const KvLayer& l) const { return l.kv_heads * blocks_per_group; }
};

BlockForm block_form(const KvLayer& l, int64_t heads) {
  BlockForm form;
  form.group = heads / l.kv_heads;
  form.heads_per_block = std::min<int64_t>(form.group, cpu::kAttentionQueries);
  form.blocks_per_group = (form.group + form.heads_per_block - 1) / form.heads_per_block;
  // A vector of latent attention holds heads of one token only.
  const int64_t lanes =
      l.shared_values ? (form.heads_per_block + 15) / 16 * 16 : form.heads_per_block;
  const int64_t fit = std::max<int64_t>(1, cpu::kAttentionQueries / lanes);
  form.tokens_per_block = std::min<int64_t>(static_cast<int64_t>(std::bit_floor(uint64_t(fit))),
                                            cpu::kAttentionAlignment);
  return form;
}

// Tokens of one sequence that follow each other, between two multiples of tokens_per_block.
struct Block {
  int32_t first;  // token of the step
  int32_t tokens;
  int32_t keys;   // that the last token sees
  int32_t spans;  // 0: all in one piece; else a piece each
  int64_t slot;   // of the first span's partial results, in rows
  int64_t piece;  // number of its first piece

  int64_t work() const { return int64_t{tokens} * keys; }
};

int64_t cut_blocks(const PagedTokens& where, int64_t tokens_per_block, Block* blocks) {
  int64_t count = 0;
  for (int64_t t = 0; t < where.tokens;) {
    const int64_t position = where.positions[t];
    const int64_t room = tokens_per_block - position % tokens_per_block;
    int64_t tokens = 1;
    while (tokens < room && t + tokens < where.tokens &&
           where.pages[t + tokens] == where.pages[t] &&
           where.positions[t + tokens] == position + tokens) {
      ++tokens;
    }
    blocks[count++] = {.first = static_cast<int32_t>(t),
                       .tokens = static_cast<int32_t>(tokens),
                       .keys = static_cast<int32_t>(position + tokens),
                       .spans = 0,
                       .slot = 0,
                       .piece = 0};
    t += tokens;
  }
  return count;
}

// order: the blocks' indices, longest first to within a quarter. By counting, as a step may hold
// thousands.
void order_by_work(const Block* blocks, int64_t count, int32_t* order) {
  constexpr int kBuckets = 256;
  // The exponent of a float and its first two bits.
  const auto bucket = [](const Block& b) {
    return kBuckets - 1 - (std::bit_cast<int32_t>(static_cast<float>(b.work())) >> 21 & 0xff);
  };
  int32_t starts[kBuckets + 1] = {};
  for (int64_t i = 0; i < count; ++i) ++starts[bucket(blocks[i]) + 1];
  for (int i = 0; i < kBuckets; ++i) starts[i + 1] += starts[i];
  for (int64_t i = 0; i < count; ++i) {
    order[starts[bucket(blocks[i])]++] = static_cast<int32_t>(i);
  }
}

// Rows of partial results that a step may hold for each thread: eight full blocks of one span.
constexpr int64_t kPartialRows = 8 * cpu::kAttentionQueries;

// Splits into spans, longest first, the blocks of which one piece would be more than a quarter of a
// thread's share, while there is room for partial results. Which ones makes no difference to the
// bits. Returns the number of pieces and numbers them in the order given.
int64_t split_into_pieces(const KvLayer& layer, const BlockForm& form, int threads,
                          const int32_t* order, int64_t count, Block* blocks) {
  const int64_t per_block = form.blocks_per_token(layer);
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += blocks[i].work() * per_block;
  int64_t pieces = 0, rows = 0;
  for (int64_t i = 0; i < count; ++i) {
    Block& block = blocks[order[i]];
    const int64_t span = cpu::attention_span(block.keys);
    const int64_t spans = (block.keys - 1) / span + 1;
    const int64_t wanted = spans * block.tokens * form.group * layer.kv_heads;
    if (threads > 1 && spans > 1 && block.work() * 4 * threads > total &&
        rows + wanted <= kPartialRows * threads) {
      block.spans = static_cast<int32_t>(spans);
      block.slot = rows;
      rows += wanted;
    }
    block.piece = pieces;
    pieces += per_block * std::max<int64_t>(1, block.spans);
  }
  return pieces;
}

size_t aligned_floats(int64_t count) {
  return Workspace::aligned(static_cast<size_t>(count) * sizeof(float)) / sizeof(float);
}

size_t scratch_floats(const KvLayer& l) {
  return aligned_floats(cpu::attention_scratch_floats(l.key_dim, l.value_dim));
}

size_t partial_floats(const KvLayer& l, int threads) {
  if (threads == 1) return 0;
  return static_cast<size_t>(kPartialRows * threads * cpu::attention_partial_floats(l.value_dim));
}

// One call of attention(): its operands and blocks.
struct Call {
  Context& ctx;
  const KvLayer& layer;
  const PagedTokens& where;
  const float* q;
  int64_t heads;
  float scale;
  float* out;
  BlockForm form;
  const Block* blocks;
  float* partial;
  int64_t partial_row;  // floats

  // The partial results of a block's span: [Hk * group, tokens] blocks of rows.
  float* partial_of(const Block& block, int64_t span, int64_t head) const {
    return partial + (block.slot + (span * heads + head) * block.tokens) * partial_row;
  }

  void run_piece(const Block& block, int64_t piece, float* scratch) const {
    const int64_t per_block = form.blocks_per_token(layer);
    const int64_t span = piece / per_block;
    const int64_t kv_head = piece % per_block / form.blocks_per_group;
    const int64_t first_head = piece % form.blocks_per_group * form.heads_per_block;
    const int64_t head = kv_head * form.group + first_head;
    const std::byte* keys = layer.data + kv_head * key_tile_bytes(layer);
    const std::byte* values =
        layer.shared_values ? keys
                            : layer.data + values_offset(layer) + kv_head * value_tile_bytes(layer);
    ctx.cpu.attention({
        .q = q + (block.first * heads + head) * layer.key_dim,
        .q_token_stride = heads * layer.key_dim,
        .k = keys,
        .v = values,
        .out = out + (block.first * heads + head) * layer.value_dim,
        .out_token_stride = heads * layer.value_dim,
        .partial = block.spans > 0 ? partial_of(block, span, head) : nullptr,
        .span = static_cast<int>(span),
        .scratch = scratch,
        .pages = where.pages[block.first],
        .page_stride = layer.page_bytes,
        .k_tile_stride = layer.kv_heads * key_tile_bytes(layer),
        .v_tile_stride = layer.kv_heads * value_tile_bytes(layer),
        .page_size = layer.page_size,
        .first_keys = block.keys - block.tokens + 1,
        .tokens = block.tokens,
        .heads = static_cast<int>(std::min(form.heads_per_block, form.group - first_head)),
        .key_dim = layer.key_dim,
        .value_dim = layer.value_dim,
        .scale = scale,
        .kv_dtype = layer.dtype,
    });
  }

  void merge_head(const Block& block, int64_t head) const {
    const int64_t first_head = head - head % form.group % form.heads_per_block;
    const int64_t in_block = head - first_head;
    const int64_t block_heads =
        std::min(form.heads_per_block, form.group - first_head % form.group);
    for (int64_t t = 0; t < block.tokens; ++t) {
      ctx.cpu.merge_attention({
          .partial = partial_of(block, 0, first_head) + (t * block_heads + in_block) * partial_row,
          .span_stride = heads * block.tokens * partial_row,
          .spans = block.spans,
          .value_dim = layer.value_dim,
          .out = out + ((block.first + t) * heads + head) * layer.value_dim,
      });
    }
  }
};

}  // namespace

int64_t kv_page_bytes(const KvLayer& layer) {
  if (layer.device == Device::kCuda) return Gpu::page_bytes(layer);
  return layer.page_size / cpu::kAttentionTile * layer.kv_heads *
         (key_tile_bytes(layer) + value_tile_bytes(layer));
}

void append_kv(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* k,
               const float* v) {
  const Profile::Scope timed(ctx.profile, Op::kAppendKv);
  TANDEM_CHECK(ctx.gpu == nullptr, "on a GPU it is a part of {}", "ops/prepared_attention.h");
  const int64_t bytes = element_bytes(layer.dtype);
  const int64_t key_dim = layer.key_dim, value_dim = layer.value_dim;
  // A key that becomes a column costs about 1 ns an element: 2 us of work.
  const int64_t grain = std::max<int64_t>(1, 2048 / (layer.kv_heads * (key_dim + value_dim)));
  ctx.pool.parallel_for(where.tokens, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t slot = where.positions[t] % layer.page_size;
      const int64_t tile = slot / cpu::kAttentionTile, in_tile = slot % cpu::kAttentionTile;
      std::byte* page =
          layer.data + where.pages[t][where.positions[t] / layer.page_size] * layer.page_bytes;
      for (int64_t h = 0; h < layer.kv_heads; ++h) {
        const int64_t index = tile * layer.kv_heads + h;
        std::byte* keys = page + index * key_tile_bytes(layer);
        const float* key = k + (t * layer.kv_heads + h) * key_dim;
        if (layer.dtype == DType::kI16) {
          ctx.cpu.store_latent({.x = key,
                                .tile = keys,
                                .in_tile = static_cast<int>(in_tile),
                                .key_dim = layer.key_dim,
                                .value_dim = layer.value_dim});
          continue;
        }
        if (layer.shared_values) {
          ctx.cpu.store_kv(key, keys + in_tile * key_dim * bytes, key_dim, layer.dtype);
          continue;
        }
        ctx.cpu.store_kv_column(key, keys + in_tile * bytes, key_dim, layer.dtype);
        std::byte* values = page + values_offset(layer) + index * value_tile_bytes(layer);
        ctx.cpu.store_kv(v + (t * layer.kv_heads + h) * value_dim,
                         values + in_tile * value_dim * bytes, value_dim, layer.dtype);
      }
    }
  });
}

size_t attention_workspace_bytes(const KvLayer& layer, int64_t tokens, int threads) {
  if (layer.device == Device::kCuda) return 0;  // the Gpu has its own
  const auto count = static_cast<size_t>(tokens);
  return static_cast<size_t>(threads) * scratch_floats(layer) * sizeof(float) +
         Workspace::aligned(partial_floats(layer, threads) * sizeof(float)) +
         Workspace::aligned(count * sizeof(Block)) + Workspace::aligned(count * sizeof(int32_t));
}

void attention(Context& ctx, const KvLayer& layer, const PagedTokens& where, const float* q,
               int64_t heads, float scale, float* out) {
  const Profile::Scope timed(ctx.profile, Op::kAttention);
  TANDEM_CHECK(ctx.gpu == nullptr, "on a GPU it is a part of {}", "ops/prepared_attention.h");
  const int threads = ctx.pool.size();
  const BlockForm form = block_form(layer, heads);
  const auto tokens = static_cast<size_t>(where.tokens);
  Workspace::Scope scope(ctx.workspace);
  float* scratch = scope.floats(static_cast<size_t>(threads) * scratch_floats(layer));
  float* partial = scope.floats(partial_floats(layer, threads));
  auto* blocks = reinterpret_cast<Block*>(scope.bytes(tokens * sizeof(Block)));
  auto* order = reinterpret_cast<int32_t*>(scope.bytes(tokens * sizeof(int32_t)));
  const int64_t count = cut_blocks(where, form.tokens_per_block, blocks);
  order_by_work(blocks, count, order);
  const int64_t pieces = split_into_pieces(layer, form, threads, order, count, blocks);
  const Call call{ctx,
                  layer,
                  where,
                  q,
                  heads,
                  scale,
                  out,
                  form,
                  blocks,
                  partial,
                  cpu::attention_partial_floats(layer.value_dim)};

  const auto block_of = [&](int64_t piece) -> const Block& {
    const int32_t* next = std::upper_bound(
        order, order + count, piece, [&](int64_t p, int32_t i) { return p < blocks[i].piece; });
    return blocks[next[-1]];
  };
  ctx.pool.parallel_for(pieces, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const Block& block = block_of(piece);
      call.run_piece(block, piece - block.piece,
                     scratch + static_cast<size_t>(worker) * scratch_floats(layer));
    }
  });

  int64_t split = 0;  // blocks, which take the first places of the order
  for (int64_t i = 0; i < count; ++i) {
    if (blocks[order[i]].spans > 0) order[split++] = order[i];
  }
  // A head has up to 16 spans of rows to read: about 1 us for rows of 512.
  ctx.pool.parallel_for(split * heads, 2, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) call.merge_head(blocks[order[i / heads]], i % heads);
  });
}

}  // namespace tandem::ops
