// Panels go to the kernels of kernels/cuda/linear.h, float weights to its float forms.
#include "ops/cuda/products.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "kernels/cuda/elementwise.h"
#include "quant/panels.h"

namespace tandem::ops {
namespace {

__nv_bfloat16* halves(std::byte* rounded) { return reinterpret_cast<__nv_bfloat16*>(rounded); }

// The rounded form of results that the product did not write itself.
void round_heads(const HeadsView& y, int64_t tokens, int64_t heads, int64_t n,
                 cudaStream_t stream) {
  if (y.rounded == nullptr) return;
  TANDEM_CHECK(y.token_stride == heads * n, "tokens of {} floats", y.token_stride);
  cuda::round_for_products({.x = y.data,
                            .x_stride = y.token_stride,
                            .out = {halves(y.rounded), y.token_stride},
                            .n = y.token_stride,
                            .rows = tokens},
                           stream);
}

// Matrices that read the same activations: as float32 for float32 weights, else as bf16.
void run_linear(const float* x, const cuda::ConstProductRows& x_rounded, int64_t k, int64_t tokens,
                std::span<const Projection> projections, cudaStream_t stream) {
  cuda::LinearParams params = {.matrices = {},
                               .count = static_cast<int>(projections.size()),
                               .x = x_rounded,
                               .x_f32 = x,
                               .x_f32_stride = k,
                               .k = static_cast<int>(k),
                               .tokens = static_cast<int>(tokens)};
  int i = 0;
  for (const Projection& p : projections) {
    const bool add = p.residual != nullptr;
    params.matrices[i++] = {.w = p.w.data,
                            .type = p.w.dtype,
                            .n = static_cast<int>(p.w.rows()),
                            .bias = p.bias ? p.bias.f32() : nullptr,
                            .y = add ? p.residual : p.y,
                            .y_stride = p.w.rows(),
                            .add = add,
                            .rounded = {halves(p.rounded), p.w.rows()}};
  }
  cuda::linear(params, stream);
  for (const Projection& p : projections) {
    if (quant::has_panels(p.w.dtype)) continue;
    round_heads({p.y, p.w.rows(), p.w.rows(), p.rounded}, tokens, 1, p.w.rows(), stream);
  }
}

// Heads that are not whole blocks of 32 columns lie in another order in x's rounded form.
void panels_per_head(Workspace& workspace, const HeadsView& x, int64_t tokens, const Tensor& w,
                     const HeadsView& y, cudaStream_t stream) {
  Workspace::Scope scope(workspace);
  const int64_t heads = w.shape.inner(2), k = w.cols(), n = w.shape.inner(1);
  cuda::ConstProductRows rows = {halves(x.rounded), x.token_stride};
  int64_t x_head_stride = x.head_stride;
  if (x.rounded == nullptr || x.head_stride % 32 != 0) {
    TANDEM_CHECK(x.token_stride == heads * x.head_stride, "{} heads of {} floats in {}", heads,
                 x.head_stride, x.token_stride);
    const cuda::ProductRows made = {
        halves(scope.bytes(static_cast<size_t>(tokens * heads * k) * sizeof(__nv_bfloat16))), k};
    cuda::round_for_products(
        {.x = x.data, .x_stride = x.head_stride, .out = made, .n = k, .rows = tokens * heads},
        stream);
    rows = {made.data, heads * k};
    x_head_stride = k;
  }
  const bool rounds = y.rounded != nullptr && n % 32 == 0;
  cuda::linear_heads({.w = w.data,
                      .type = w.dtype,
                      .n = static_cast<int>(n),
                      .k = static_cast<int>(k),
                      .heads = static_cast<int>(heads),
                      .x = rows,
                      .x_head_stride = x_head_stride,
                      .y = y.data,
                      .y_stride = y.token_stride,
                      .y_head_stride = y.head_stride,
                      .tokens = static_cast<int>(tokens),
                      .rounded = {rounds ? halves(y.rounded) : nullptr, y.token_stride}},
                     stream);
  if (!rounds) round_heads(y, tokens, heads, n, stream);
}

// Float weights, or gate and up of different types: the fused kernel is for one panel type.
void feed_forward_in_floats(Workspace& workspace, const Input& x, int64_t tokens,
                            const Tensor& gate, const Tensor& up, const Projection& down,
                            cudaStream_t stream) {
  Workspace::Scope scope(workspace);
  const int64_t hidden = gate.rows();
  float* gated = scope.floats(static_cast<size_t>(tokens * hidden));  // [T, F]
  float* other = scope.floats(static_cast<size_t>(tokens * hidden));  // [T, F]
  const std::array<Projection, 2> both = {Projection{.w = gate, .y = gated},
                                          Projection{.w = up, .y = other}};
  device_linear(workspace, x, tokens, both, stream);
  cuda::silu_mul(
      {{gated, hidden}, {other, hidden}, {gated, hidden}, hidden, static_cast<int>(tokens)},
      stream);
  device_linear(workspace, gated, tokens, {&down, 1}, stream);
}

}  // namespace

cuda::ConstProductRows for_products(Workspace::Scope& scope, const Input& x, int64_t rows,
                                    int64_t n, cudaStream_t stream) {
  if (x.rounded != nullptr) return {reinterpret_cast<const __nv_bfloat16*>(x.rounded), n};
  const cuda::ProductRows out = {
      halves(scope.bytes(static_cast<size_t>(rows * n) * sizeof(__nv_bfloat16))), n};
  cuda::round_for_products({.x = x.f32, .x_stride = n, .out = out, .n = n, .rows = rows}, stream);
  return out;
}

void device_linear(Workspace& workspace, const Input& x, int64_t tokens,
                   std::span<const Projection> projections, cudaStream_t stream) {
  Workspace::Scope scope(workspace);
  const int64_t k = projections.front().w.cols();
  const bool rounds = std::any_of(projections.begin(), projections.end(),
                                  [](const auto& p) { return quant::has_panels(p.w.dtype); });
  const cuda::ConstProductRows rows =
      rounds ? for_products(scope, x, tokens, k, stream) : cuda::ConstProductRows();
  run_linear(x.f32, rows, k, tokens, projections, stream);
}

void device_feed_forward(Workspace& workspace, const Input& x, int64_t tokens, const Tensor& gate,
                         const Tensor& up, const Projection& down, cudaStream_t stream) {
  Workspace::Scope scope(workspace);
  const int64_t k = gate.cols(), hidden = gate.rows();
  if (!quant::has_panels(gate.dtype) || gate.dtype != up.dtype ||
      !quant::has_panels(down.w.dtype)) {
    return feed_forward_in_floats(workspace, x, tokens, gate, up, down, stream);
  }
  const cuda::ProductRows between = {
      halves(scope.bytes(static_cast<size_t>(tokens * hidden) * sizeof(__nv_bfloat16))), hidden};
  cuda::linear_gated({.gate = gate.data,
                      .up = up.data,
                      .type = gate.dtype,
                      .n = static_cast<int>(hidden),
                      .x = for_products(scope, x, tokens, k, stream),
                      .k = static_cast<int>(k),
                      .tokens = static_cast<int>(tokens),
                      .y = between},
                     stream);
  run_linear(nullptr, between, hidden, tokens, {&down, 1}, stream);
}

void device_linear_per_head(Workspace& workspace, const HeadsView& x, int64_t tokens,
                            const Tensor& w, const HeadsView& y, cudaStream_t stream) {
  const int64_t heads = w.shape.inner(2);
  if (quant::has_panels(w.dtype)) return panels_per_head(workspace, x, tokens, w, y, stream);
  for (int64_t h = 0; h < heads; ++h) {
    cuda::LinearParams params = {.matrices = {},
                                 .count = 1,
                                 .x = {},
                                 .x_f32 = x.data + h * x.head_stride,
                                 .x_f32_stride = x.token_stride,
                                 .k = static_cast<int>(w.cols()),
                                 .tokens = static_cast<int>(tokens)};
    params.matrices[0] = {.w = quant::rows_at(w, h, 0),
                          .type = w.dtype,
                          .n = static_cast<int>(w.shape.inner(1)),
                          .bias = nullptr,
                          .y = y.data + h * y.head_stride,
                          .y_stride = y.token_stride,
                          .add = false};
    cuda::linear(params, stream);
  }
  round_heads(y, tokens, heads, w.shape.inner(1), stream);
}

}  // namespace tandem::ops
