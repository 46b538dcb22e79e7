// Operators that treat each token's row on its own: norms, copies, embedding lookup.
#pragma once

#include "base/tensor.h"
#include "ops/context.h"
#include "ops/linear.h"

namespace tandem::ops {

// y[r] = norm(x[r]) * weight for rows of weight.cols() floats.
struct RowsView {
  float* data;
  int64_t stride;                // floats
  std::byte* rounded = nullptr;  // of y: as in Features, rows as far apart, or null
};
void rms_norm(Context& ctx, RowsView x, int64_t rows, const Tensor& weight, float epsilon,
              RowsView y);

// out[t] = row ids[t] of the table as floats. table: [V, M] any type; out: [T, M] f32.
void embed(Context& ctx, const Tensor& table, const int32_t* ids, int64_t tokens, float* out);

// to[t, h, 0 .. width) = from[t, h, 0 .. width)
void copy_columns(Context& ctx, HeadsView from, HeadsView to, int64_t tokens, int64_t heads,
                  int64_t width);

// out[i] = x[rows[i]]; [B, width] f32.
void gather_rows(Context& ctx, const float* x, const int32_t* rows, int64_t count, int64_t width,
                 float* out);

}  // namespace tandem::ops
