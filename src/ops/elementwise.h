// Operators that treat each token's row on its own: norms, sums, activation, embedding lookup.
#pragma once

#include "base/tensor.h"
#include "ops/context.h"
#include "ops/linear.h"

namespace tandem::ops {

// y[r] = norm(x[r]) * weight for rows of weight.cols() floats; x rows x_stride, y rows y_stride
// floats apart.
struct RowsView {
  float* data;
  int64_t stride;  // floats
};
void rms_norm(Context& ctx, RowsView x, int64_t rows, const Tensor& weight, float epsilon,
              RowsView y);

// x += y over [T, M] f32.
void add_to(Context& ctx, float* x, const float* y, int64_t tokens, int64_t width);

// out = silu(gate) * up over [T, F] f32; out may be gate.
void silu_mul(Context& ctx, const float* gate, const float* up, float* out, int64_t tokens,
              int64_t width);

// y[t] *= sigmoid(gate[t]); gate is [T, 1], y [T, width].
void scale_by_sigmoid(Context& ctx, float* gate, float* y, int64_t tokens, int64_t width);

// out[t] = row ids[t] of the table as floats. table: [V, M] any type; out: [T, M] f32.
void embed(Context& ctx, const Tensor& table, const int32_t* ids, int64_t tokens, float* out);

// to[t, h, 0 .. width) = from[t, h, 0 .. width)
void copy_columns(Context& ctx, HeadsView from, HeadsView to, int64_t tokens, int64_t heads,
                  int64_t width);

// out[i] = x[rows[i]]; [B, width] f32.
void gather_rows(Context& ctx, const float* x, const int32_t* rows, int64_t count, int64_t width,
                 float* out);

}  // namespace tandem::ops
