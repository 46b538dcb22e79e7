// Five loops over the thread pool: quantise tokens, gate and up, activation and quantisation, down,
// weighted sum.
#include "moe/experts.h"

#include <algorithm>

#include "ops/linear.h"
#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::moe {
namespace {

using ops::Workspace;

// Output rows of an expert that one piece computes, for all of the expert's tokens.
constexpr int64_t kRowsPerPiece = 32;

struct SlotProduct {
  const Tensor& w;  // [E, n, k]
  ops::Activations x;
  const int32_t* x_rows;  // row of x of each slot, or null: the slot itself
  float* y;               // [slots, n]
};

// y[slot] = w[expert of slot] x[row of slot] for rows [begin, end) of one expert.
void multiply_rows(const ops::Context& ctx, const SlotProduct& p, const Grouping& grouping,
                   int32_t expert, int64_t begin, int64_t end) {
  const int64_t n = p.w.shape.inner(1);
  const int64_t k = p.w.cols();
  const auto e = static_cast<size_t>(expert);
  const int32_t first = grouping.first_slot[e];
  const int32_t count = grouping.first_slot[e + 1] - first;
  ctx.cpu.linear[static_cast<size_t>(p.w.dtype)]({
      .w = quant::rows_at(p.w, expert, begin),
      .w_stride = quant::rows_stride(p.w),
      .x = p.x_rows != nullptr ? p.x.data : p.x.data + first * p.x.stride,
      .x_stride = p.x.stride,
      .x_rows = p.x_rows != nullptr ? p.x_rows + first : nullptr,
      .y = p.y + first * n + begin,
      .y_stride = n,
      .n = static_cast<int>(end - begin),
      .k = static_cast<int>(k),
      .t = count,
  });
}

int64_t pieces_of(int64_t rows) { return (rows + kRowsPerPiece - 1) / kRowsPerPiece; }

}  // namespace

int64_t ExpertWeights::bytes_per_expert() const {
  int64_t bytes = 0;
  for (const Tensor& w : {gate, up, down}) {
    bytes += w.shape.inner(1) * quant::row_bytes(w.dtype, w.cols());
  }
  return bytes;
}

void Grouping::reserve(int64_t tokens, int experts, int used) {
  first_slot.resize(static_cast<size_t>(experts) + 1);
  active.reserve(static_cast<size_t>(experts));
  slot_token.resize(static_cast<size_t>(tokens * used));
  slot_of.resize(static_cast<size_t>(tokens * used));
}

void Grouping::assign(const int32_t* ids, int64_t tokens, int experts, int used) {
  const int64_t slots = tokens * used;
  TANDEM_CHECK(static_cast<size_t>(slots) <= slot_of.size(), "{} slots, room for {}", slots,
               slot_of.size());
  std::fill(first_slot.begin(), first_slot.end(), 0);
  for (int64_t i = 0; i < slots; ++i) ++first_slot[static_cast<size_t>(ids[i]) + 1];
  active.clear();
  for (int e = 0; e < experts; ++e) {
    const auto index = static_cast<size_t>(e);
    if (first_slot[index + 1] > 0) active.push_back(e);
    first_slot[index + 1] += first_slot[index];
  }
  // Fill each expert's slots in token order; first_slot serves as the cursor and is shifted back
  // afterwards.
  for (int64_t i = 0; i < slots; ++i) {
    const int32_t slot = first_slot[static_cast<size_t>(ids[i])]++;
    slot_token[static_cast<size_t>(slot)] = static_cast<int32_t>(i / used);
    slot_of[static_cast<size_t>(i)] = slot;
  }
  for (auto e = static_cast<size_t>(experts); e > 0; --e) first_slot[e] = first_slot[e - 1];
  first_slot[0] = 0;
}

size_t experts_workspace_bytes(const ExpertWeights& experts, int64_t tokens, int used) {
  const int64_t hidden = experts.down.cols();
  const int64_t width = experts.gate.cols();
  const int64_t slots = tokens * used;
  const auto floats = [](int64_t n) {
    return Workspace::aligned(static_cast<size_t>(n) * sizeof(float));
  };
  return Workspace::aligned(ops::activation_bytes(experts.gate.dtype, tokens, width)) +
         Workspace::aligned(ops::activation_bytes(experts.up.dtype, tokens, width)) +
         2 * floats(slots * hidden) +
         Workspace::aligned(ops::activation_bytes(experts.down.dtype, slots, hidden)) +
         floats(slots * width);
}

void run_experts(ops::Context& ctx, const ExpertWeights& experts, Grouping& grouping,
                 const float* x, const int32_t* ids, const float* weights, int64_t tokens, int used,
                 float* y) {
  const int64_t width = experts.gate.cols();   // M
  const int64_t hidden = experts.down.cols();  // F
  const int64_t slots = tokens * used;
  const int num_experts = static_cast<int>(experts.gate.shape.inner(2));
  Workspace::Scope scope(ctx.workspace);
  grouping.assign(ids, tokens, num_experts, used);
  const auto active = static_cast<int64_t>(grouping.active.size());

  const auto quantize_tokens = [&](DType dtype) {
    return ops::quantize(ctx, dtype, x, width, tokens, width,
                         scope.bytes(ops::activation_bytes(dtype, tokens, width)));
  };
  const bool same_format =
      quant::traits(experts.gate.dtype).activation == quant::traits(experts.up.dtype).activation;
  const ops::Activations gate_x = quantize_tokens(experts.gate.dtype);
  const ops::Activations up_x = same_format ? gate_x : quantize_tokens(experts.up.dtype);
  float* gate = scope.floats(static_cast<size_t>(slots * hidden));  // [T * K, F]
  float* up = scope.floats(static_cast<size_t>(slots * hidden));    // [T * K, F]
  const int32_t* token_of = grouping.slot_token.data();
  const SlotProduct gate_product{experts.gate, gate_x, token_of, gate};
  const SlotProduct up_product{experts.up, up_x, token_of, up};
  const int64_t hidden_pieces = pieces_of(hidden);
  ctx.pool.parallel_for(active * hidden_pieces, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t expert = grouping.active[static_cast<size_t>(i / hidden_pieces)];
      const int64_t from = i % hidden_pieces * kRowsPerPiece;
      const int64_t to = std::min(from + kRowsPerPiece, hidden);
      multiply_rows(ctx, gate_product, grouping, expert, from, to);
      multiply_rows(ctx, up_product, grouping, expert, from, to);
    }
  });

  ctx.pool.parallel_for(slots, std::max<int64_t>(1, 8192 / hidden),
                        [&](int64_t begin, int64_t end, int) {
                          ctx.cpu.silu_mul(gate + begin * hidden, up + begin * hidden,
                                           gate + begin * hidden, (end - begin) * hidden);
                        });
  const ops::Activations activated =
      ops::quantize(ctx, experts.down.dtype, gate, hidden, slots, hidden,
                    scope.bytes(ops::activation_bytes(experts.down.dtype, slots, hidden)));

  float* down = scope.floats(static_cast<size_t>(slots * width));  // [T * K, M]
  const SlotProduct down_product{experts.down, activated, nullptr, down};
  const int64_t width_pieces = pieces_of(width);
  ctx.pool.parallel_for(active * width_pieces, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t expert = grouping.active[static_cast<size_t>(i / width_pieces)];
      const int64_t from = i % width_pieces * kRowsPerPiece;
      multiply_rows(ctx, down_product, grouping, expert, from,
                    std::min(from + kRowsPerPiece, width));
    }
  });

  ctx.pool.parallel_for(tokens, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(y + t * width, width, 0.0F);
      for (int rank = 0; rank < used; ++rank) {
        const int64_t slot = grouping.slot_of[static_cast<size_t>(t * used + rank)];
        ctx.cpu.multiply_add(down + slot * width, weights[t * used + rank], y + t * width, width);
      }
    }
  });
}

}  // namespace tandem::moe
