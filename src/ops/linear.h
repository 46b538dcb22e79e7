// Products of activations with weight matrices of any type. Activations are quantised here, each
// row on its own.
#pragma once

#include <initializer_list>

#include "base/tensor.h"
#include "ops/context.h"
#include "ops/products.h"

namespace tandem::ops {

// Bytes of `rows` rows of k activations in the format that weights of the type are multiplied with.
size_t activation_bytes(DType weight_dtype, int64_t rows, int64_t k);

// One row of k floats -> out, in the format for weights of the type.
void quantize_row(const Context& ctx, DType weight_dtype, const float* x, int64_t k,
                  std::byte* out);
// x: rows of k floats, x_stride floats apart -> out.
Activations quantize(Context& ctx, DType weight_dtype, const float* x, int64_t x_stride,
                     int64_t rows, int64_t k, std::byte* out);

// Rows of activations; on a GPU also in the form that its products read (kernels/cuda/linear.h),
// which the operator that makes them writes on its way.
struct Features {
  float* f32;                    // [T, n]
  std::byte* rounded = nullptr;  // [T, n]; null on the CPU, and where n is no multiple of 32
};
Features take_features(const Context& ctx, Workspace::Scope& scope, int64_t tokens, int64_t n);
size_t features_bytes(int64_t tokens, int64_t n);

// What products read; where the rounded form is missing and wanted, it is made.
struct Input {
  Input(const float* rows) : f32(rows) {}
  Input(const float* rows, const std::byte* for_products) : f32(rows), rounded(for_products) {}
  Input(const Features& x) : f32(x.f32), rounded(x.rounded) {}
  const float* f32;  // [T, k]
  const std::byte* rounded = nullptr;
};

struct Projection {
  Tensor w;                      // [n, k]
  Tensor bias = {};              // [n] f32, or none
  float* y;                      // [T, n] f32
  float* residual = nullptr;     // [T, n] f32 += y, or none
  std::byte* rounded = nullptr;  // [T, n] y as in Features, or null; not with a residual
};

// y = x w^T + bias for several matrices that read the same x. [T, k]
void linear(Context& ctx, Input x, int64_t tokens, std::initializer_list<Projection> projections);

// down applied to silu(x gate^T) * (x up^T). x: [T, k]; gate, up: [n, k]; down.w: [*, n]
void feed_forward(Context& ctx, Input x, int64_t tokens, const Tensor& gate, const Tensor& up,
                  const Projection& down);
size_t feed_forward_workspace_bytes(int64_t tokens, const Tensor& gate, int threads);

// Scratch that either takes for `tokens` rows of at most k columns.
size_t linear_workspace_bytes(int64_t tokens, int64_t k, int threads);

// A block of columns in each head of each token.
struct HeadsView {
  float* data;                   // token 0, head 0
  int64_t token_stride;          // floats
  int64_t head_stride;           // floats
  std::byte* rounded = nullptr;  // of all columns of the tokens' rows, as in Features, or null
};

// y[t, h] = w[h] x[t, h] for every head on its own. w: [H, n, k]; x: [T, H, k]; y: [T, H, n] f32.
void linear_per_head(Context& ctx, HeadsView x, int64_t tokens, const Tensor& w, HeadsView y);
size_t linear_per_head_workspace_bytes(int64_t tokens, const Tensor& w);

}  // namespace tandem::ops
