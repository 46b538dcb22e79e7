// Operators over single rows; the split over threads is by rows.
#include "ops/elementwise.h"

#include <algorithm>

#include "quant/panels.h"

namespace tandem::ops {
namespace {

// Rows a thread takes at a time: about 16 K floats, some 2 us.
int64_t rows_per_piece(int64_t width) { return std::max<int64_t>(1, 16384 / width); }

}  // namespace

void rms_norm(Context& ctx, RowsView x, int64_t rows, const Tensor& weight, float epsilon,
              RowsView y) {
  const Profile::Scope timed(ctx.profile, Op::kNorm);
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

void add_to(Context& ctx, float* x, const float* y, int64_t tokens, int64_t width) {
  const Profile::Scope timed(ctx.profile, Op::kElementwise);
  ctx.pool.parallel_for(tokens, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    ctx.cpu.add(x + begin * width, y + begin * width, x + begin * width, (end - begin) * width);
  });
}

void silu_mul(Context& ctx, const float* gate, const float* up, float* out, int64_t tokens,
              int64_t width) {
  const Profile::Scope timed(ctx.profile, Op::kElementwise);
  ctx.pool.parallel_for(tokens, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      ctx.cpu.silu_mul(gate + t * width, up + t * width, out + t * width, width);
    }
  });
}

void scale_by_sigmoid(Context& ctx, float* gate, float* y, int64_t tokens, int64_t width) {
  const Profile::Scope timed(ctx.profile, Op::kElementwise);
  ctx.cpu.sigmoid(gate, tokens);
  ctx.pool.parallel_for(tokens, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < width; ++i) y[t * width + i] *= gate[t];
    }
  });
}

void embed(Context& ctx, const Tensor& table, const int32_t* ids, int64_t tokens, float* out) {
  const Profile::Scope timed(ctx.profile, Op::kEmbed);
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
  ctx.pool.parallel_for(count, rows_per_piece(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(x + rows[i] * width, width, out + i * width);
  });
}

}  // namespace tandem::ops
