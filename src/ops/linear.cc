// Quantisation of activations, then one loop of products.
#include "ops/linear.h"

#include <algorithm>
#include <array>

#include "ops/gpu.h"
#include "quant/activation.h"
#include "quant/types.h"

namespace tandem::ops {
namespace {

using quant::ActivationFormat;

constexpr size_t kMostProjections = 4;  // of one call: q, k and v, and one to spare
constexpr int kNumFormats = 3;

ActivationFormat format_of(DType dtype) { return quant::traits(dtype).activation; }

// Rows of x in the formats of the weights that read them, each quantised once.
class Inputs {
 public:
  Inputs(Context& ctx, Workspace::Scope& scope, const float* x, int64_t tokens, int64_t k)
      : ctx_(ctx), scope_(scope), x_(x), tokens_(tokens), k_(k) {}

  Activations for_weights(const Tensor& w) {
    TANDEM_CHECK(w.cols() == k_, "a matrix of {} columns, an input of {}", w.cols(), k_);
    const ActivationFormat format = format_of(w.dtype);
    if (format == ActivationFormat::kF32) {
      return {reinterpret_cast<const std::byte*>(x_), k_ * int64_t{sizeof(float)}};
    }
    Activations& rows = formats_[static_cast<size_t>(format)];
    if (rows.data == nullptr) {
      rows = quantize(ctx_, w.dtype, x_, k_, tokens_, k_,
                      scope_.bytes(activation_bytes(w.dtype, tokens_, k_)));
    }
    return rows;
  }

 private:
  Context& ctx_;
  Workspace::Scope& scope_;
  const float* x_;
  int64_t tokens_, k_;
  std::array<Activations, kNumFormats> formats_ = {};
};

// Adds bias and residual to the tile that was just computed.
void finish(const Context& ctx, const Projection& p, const Tile& tile) {
  const int64_t n = p.w.rows(), rows = tile.row_end - tile.row_begin;
  for (int64_t t = tile.token_begin; t < tile.token_end; ++t) {
    float* y = p.y + t * n + tile.row_begin;
    if (p.bias) ctx.cpu.add(y, p.bias.f32() + tile.row_begin, y, rows);
    if (p.residual == nullptr) continue;
    float* residual = p.residual + t * n + tile.row_begin;
    ctx.cpu.add(residual, y, residual, rows);
  }
}

// y = silu(x gate^T) * (x up^T). y: [T, n] f32
void gated(Context& ctx, const float* x, int64_t tokens, const Tensor& gate, const Tensor& up,
           float* y) {
  Workspace::Scope scope(ctx.workspace);
  Inputs inputs(ctx, scope, x, tokens, gate.cols());
  const Product product = {.w = &gate,
                           .up = &up,
                           .x = inputs.for_weights(gate),
                           .up_x = inputs.for_weights(up),
                           .y = y,
                           .y_stride = gate.rows(),
                           .tokens = tokens};
  run_products(ctx, std::span<const Product>(&product, 1));
}

}  // namespace

size_t activation_bytes(DType weight_dtype, int64_t rows, int64_t k) {
  return static_cast<size_t>(rows * quant::activation_bytes(format_of(weight_dtype), k));
}

void quantize_row(const Context& ctx, DType weight_dtype, const float* x, int64_t k,
                  std::byte* out) {
  switch (format_of(weight_dtype)) {
    case ActivationFormat::kF32:
      std::copy_n(x, k, reinterpret_cast<float*>(out));
      return;
    case ActivationFormat::kA32:
      ctx.cpu.quantize_a32(x, out, k);
      return;
    case ActivationFormat::kA256:
      ctx.cpu.quantize_a256(x, out, k);
      return;
  }
}

Activations quantize(Context& ctx, DType weight_dtype, const float* x, int64_t x_stride,
                     int64_t rows, int64_t k, std::byte* out) {
  const int64_t stride = quant::activation_bytes(format_of(weight_dtype), k);
  // 16 K elements are some 2 us of work, what a loop costs: up to there the caller does it.
  const int64_t rows_per_piece = std::max<int64_t>(1, 16384 / k);
  ctx.pool.parallel_for(rows, rows_per_piece, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      quantize_row(ctx, weight_dtype, x + row * x_stride, k, out + row * stride);
    }
  });
  return {out, stride};
}

size_t linear_workspace_bytes(int64_t tokens, int64_t k, int threads) {
  size_t bytes = products_workspace_bytes(kMostProjections, true, threads);
  for (const DType one_of_each : {DType::kQ8_0, DType::kQ4_K}) {
    bytes += Workspace::aligned(activation_bytes(one_of_each, tokens, (k + 255) / 256 * 256));
  }
  return bytes;
}

Features take_features(const Context& ctx, Workspace::Scope& scope, int64_t tokens, int64_t n) {
  const auto count = static_cast<size_t>(tokens * n);
  Features features = {.f32 = scope.floats(count)};
  if (ctx.gpu != nullptr && n % 32 == 0) features.rounded = scope.bytes(2 * count);
  return features;
}

size_t features_bytes(int64_t tokens, int64_t n) {
  const auto count = static_cast<size_t>(tokens * n);
  return Workspace::aligned(count * sizeof(float)) + Workspace::aligned(2 * count);
}

void linear(Context& ctx, Input x, int64_t tokens, std::initializer_list<Projection> projections) {
  const Profile::Scope timed(ctx.profile, Op::kLinear);
  TANDEM_CHECK(projections.size() <= kMostProjections, "{} matrices", projections.size());
  if (ctx.gpu != nullptr) {
    return ctx.gpu->linear(ctx.workspace, x, tokens, {projections.begin(), projections.size()});
  }
  Workspace::Scope scope(ctx.workspace);
  Inputs inputs(ctx, scope, x.f32, tokens, projections.begin()->w.cols());
  std::array<Product, kMostProjections> products;
  size_t count = 0;
  for (const Projection& p : projections) {
    products[count++] = {.w = &p.w,
                         .x = inputs.for_weights(p.w),
                         .y = p.y,
                         .y_stride = p.w.rows(),
                         .tokens = tokens};
  }
  run_products(ctx, std::span(products).first(count), [&](int64_t product, const Tile& tile) {
    finish(ctx, projections.begin()[product], tile);
  });
}

void feed_forward(Context& ctx, Input x, int64_t tokens, const Tensor& gate, const Tensor& up,
                  const Projection& down) {
  const Profile::Scope timed(ctx.profile, Op::kLinear);
  if (ctx.gpu != nullptr) {
    return ctx.gpu->feed_forward(ctx.workspace, x, tokens, gate, up, down);
  }
  Workspace::Scope scope(ctx.workspace);
  float* hidden = scope.floats(static_cast<size_t>(tokens * gate.rows()));  // [T, n]
  gated(ctx, x.f32, tokens, gate, up, hidden);
  linear(ctx, hidden, tokens, {down});
}

size_t feed_forward_workspace_bytes(int64_t tokens, const Tensor& gate, int threads) {
  // Twice what the CPU takes between the matrices: on the GPU both of them may have an output.
  return 2 * Workspace::aligned(static_cast<size_t>(tokens * gate.rows()) * sizeof(float)) +
         linear_workspace_bytes(tokens, std::max(gate.rows(), gate.cols()), threads);
}

size_t linear_per_head_workspace_bytes(int64_t tokens, const Tensor& w) {
  const int64_t rows = tokens * w.shape.inner(2);
  // As the CPU's products read them, or the GPU's.
  const size_t input =
      std::max(activation_bytes(w.dtype, rows, w.cols()), 2 * static_cast<size_t>(rows * w.cols()));
  return Workspace::aligned(input) + products_workspace_bytes(1, false, 0);
}

void linear_per_head(Context& ctx, HeadsView x, int64_t tokens, const Tensor& w, HeadsView y) {
  const Profile::Scope timed(ctx.profile, Op::kLinear);
  if (ctx.gpu != nullptr) return ctx.gpu->linear_per_head(ctx.workspace, x, tokens, w, y);
  const int64_t heads = w.shape.inner(2);
  const int64_t k = w.cols();
  Workspace::Scope scope(ctx.workspace);
  const int64_t stride = quant::activation_bytes(format_of(w.dtype), k);
  std::byte* rows = scope.bytes(activation_bytes(w.dtype, tokens * heads, k));  // [H, T, k]
  // The same limit as in quantize().
  ctx.pool.parallel_for(
      tokens * heads, std::max<int64_t>(1, 16384 / k), [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t h = row / tokens, t = row % tokens;
          quantize_row(ctx, w.dtype, x.data + t * x.token_stride + h * x.head_stride, k,
                       rows + row * stride);
        }
      });
  const Product product = {.w = &w,
                           .matrices = heads,
                           .x = {rows, stride},
                           .y = y.data,
                           .y_stride = y.token_stride,
                           .y_step = y.head_stride,
                           .tokens = tokens};
  run_products(ctx, std::span<const Product>(&product, 1));
}

}  // namespace tandem::ops
