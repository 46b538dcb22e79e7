// Operators over single rows; the split over threads is by rows.
#include "ops/elementwise.h"

#include <algorithm>

#include "ops/gpu.h"
#include "quant/panels.h"

namespace tandem::ops {
namespace {

// Rows worth a piece: about 16 K floats, some 2 us, what a parallel loop costs. Steps of few tokens
// stay below it, so that the caller does the work itself.
int64_t rows_per_piece(int64_t width) { return std::max<int64_t>(1, 16384 / width); }

}  // namespace

void rms_norm(Context& ctx, RowsView x, int64_t rows, const Tensor& weight, float epsilon,
              RowsView y) {
  const Profile::Scope timed(ctx.profile, Op::kNorm);
  if (ctx.gpu != nullptr) return ctx.gpu->rms_norm(x, rows, weight, epsilon, y);
  const int64_t n = weight.cols();
  ctx.pool.parallel_for(rows, rows_per_piece(n), [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      ctx.cpu.rms_norm({.x = x.data + row * x.stride,
                        .weight = weight.f32(),
                        .y = y.data + row * y.stride,
                        .n = n,
                        .epsilon = epsilon});
    }
  });
}

void embed(Context& ctx, const Tensor& table, const int32_t* ids, int64_t tokens, float* out) {
  const Profile::Scope timed(ctx.profile, Op::kEmbed);
  if (ctx.gpu != nullptr) return ctx.gpu->embed(table, ids, tokens, out);
  const int64_t width = table.cols();
  ctx.pool.parallel_for(tokens, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      TANDEM_CHECK(ids[t] >= 0 && ids[t] < table.rows(), "token {} of {}", ids[t], table.rows());
      quant::dequantize_row(table, ids[t], out + t * width);
    }
  });
}

void copy_columns(Context& ctx, HeadsView from, HeadsView to, int64_t tokens, int64_t heads,
                  int64_t width) {
  const Profile::Scope timed(ctx.profile, Op::kElementwise);
  TANDEM_CHECK(ctx.gpu == nullptr, "on a GPU it is a part of {}", "ops/prepared_attention.h");
  ctx.pool.parallel_for(
      tokens, rows_per_piece(heads * width), [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
          for (int64_t h = 0; h < heads; ++h) {
            std::copy_n(from.data + t * from.token_stride + h * from.head_stride, width,
                        to.data + t * to.token_stride + h * to.head_stride);
          }
        }
      });
}

void gather_rows(Context& ctx, const float* x, const int32_t* rows, int64_t count, int64_t width,
                 float* out) {
  const Profile::Scope timed(ctx.profile, Op::kElementwise);
  if (ctx.gpu != nullptr) return ctx.gpu->gather_rows(x, rows, count, width, out);
  ctx.pool.parallel_for(count, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(x + rows[i] * width, width, out + i * width);
  });
}

}  // namespace tandem::ops
