// Shape checks, quantisation of activations and the split of output rows over threads.
#include "ops/linear.h"

#include <algorithm>

#include "quant/activation.h"
#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::ops {
namespace {

using quant::ActivationFormat;

// Output rows a thread takes at a time: enough work to outweigh taking it (some 10 us at decode),
// small enough that threads end together.
constexpr int64_t kRowsPerPiece = 32;

ActivationFormat format_of(DType dtype) { return quant::traits(dtype).activation; }

cpu::LinearFn kernel_for(const Context& ctx, const Tensor& w) {
  const cpu::LinearFn kernel = ctx.cpu.linear[static_cast<size_t>(w.dtype)];
  TANDEM_CHECK(kernel != nullptr, "no {} kernel for weights of type {}", ctx.cpu.name,
               quant::traits(w.dtype).name);
  TANDEM_CHECK(quant::has_panels(w.dtype) == (w.layout == Layout::kPanels),
               "weights of type {} in the wrong layout", quant::traits(w.dtype).name);
  return kernel;
}

void add_bias(const Context& ctx, const Projection& p, int64_t begin, int64_t end, int64_t tokens) {
  if (!p.bias) return;
  const int64_t n = p.w.rows();
  for (int64_t t = 0; t < tokens; ++t) {
    float* y = p.y + t * n + begin;
    ctx.cpu.add(y, p.bias.f32() + begin, y, end - begin);
  }
}

}  // namespace

size_t activation_bytes(DType weight_dtype, int64_t rows, int64_t k) {
  return static_cast<size_t>(rows * quant::activation_bytes(format_of(weight_dtype), k));
}

Activations quantize(Context& ctx, DType weight_dtype, const float* x, int64_t x_stride,
                     int64_t rows, int64_t k, std::byte* out) {
  const ActivationFormat format = format_of(weight_dtype);
  const int64_t stride = quant::activation_bytes(format, k);
  const cpu::QuantizeFn kernel =
      format == ActivationFormat::kA32 ? ctx.cpu.quantize_a32 : ctx.cpu.quantize_a256;
  // 16 K elements are some 2 us of work.
  const int64_t rows_per_piece = std::max<int64_t>(1, 16384 / k);
  ctx.pool.parallel_for(rows, rows_per_piece, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const float* source = x + row * x_stride;
      if (format == ActivationFormat::kF32) {
        std::copy_n(source, k, reinterpret_cast<float*>(out + row * stride));
      } else {
        kernel(source, out + row * stride, k);
      }
    }
  });
  return {out, stride};
}

size_t linear_workspace_bytes(int64_t tokens, int64_t k) {
  size_t bytes = 0;
  for (const DType one_of_each : {DType::kQ8_0, DType::kQ4_K}) {
    bytes += Workspace::aligned(activation_bytes(one_of_each, tokens, (k + 255) / 256 * 256));
  }
  return bytes;
}

void linear(Context& ctx, const float* x, int64_t tokens,
            std::initializer_list<Projection> projections) {
  const int64_t k = projections.begin()->w.cols();
  Workspace::Scope scope(ctx.workspace);
  Activations formats[3] = {};
  int64_t total_rows = 0;
  for (const Projection& p : projections) {
    TANDEM_CHECK(p.w.cols() == k, "matrices of {} and {} columns share one input", p.w.cols(), k);
    const ActivationFormat format = format_of(p.w.dtype);
    Activations& activations = formats[static_cast<size_t>(format)];
    if (format == ActivationFormat::kF32) {
      activations = {reinterpret_cast<const std::byte*>(x), k * int64_t{sizeof(float)}};
    } else if (activations.data == nullptr) {
      activations = quantize(ctx, p.w.dtype, x, k, tokens, k,
                             scope.bytes(activation_bytes(p.w.dtype, tokens, k)));
    }
    total_rows += p.w.rows();
  }

  ctx.pool.parallel_for(total_rows, kRowsPerPiece, [&](int64_t begin, int64_t end, int) {
    int64_t first_row = 0;  // of the projection, in the joint numbering
    for (const Projection& p : projections) {
      const int64_t n = p.w.rows();
      const int64_t from = std::max(begin, first_row) - first_row;
      const int64_t to = std::min(end, first_row + n) - first_row;
      first_row += n;
      if (from >= to) continue;
      const Activations& activations = formats[static_cast<size_t>(format_of(p.w.dtype))];
      kernel_for(ctx, p.w)({
          .w = quant::rows_at(p.w, 0, from),
          .w_stride = quant::rows_stride(p.w),
          .x = activations.data,
          .x_stride = activations.stride,
          .x_rows = nullptr,
          .y = p.y + from,
          .y_stride = n,
          .n = static_cast<int>(to - from),
          .k = static_cast<int>(k),
          .t = static_cast<int>(tokens),
      });
      add_bias(ctx, p, from, to, tokens);
    }
  });
}

size_t linear_per_head_workspace_bytes(int64_t tokens, const Tensor& w) {
  return Workspace::aligned(activation_bytes(w.dtype, tokens * w.shape.inner(2), w.cols()));
}

void linear_per_head(Context& ctx, HeadsView x, int64_t tokens, const Tensor& w, HeadsView y) {
  const int64_t heads = w.shape.inner(2);
  const int64_t n = w.shape.inner(1);
  const int64_t k = w.cols();
  Workspace::Scope scope(ctx.workspace);
  const int64_t stride = quant::activation_bytes(format_of(w.dtype), k);
  std::byte* rows = scope.bytes(activation_bytes(w.dtype, tokens * heads, k));  // [H, T, k]
  const ActivationFormat format = format_of(w.dtype);
  const cpu::QuantizeFn kernel =
      format == ActivationFormat::kA32 ? ctx.cpu.quantize_a32 : ctx.cpu.quantize_a256;
  ctx.pool.parallel_for(heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t h = begin; h < end; ++h) {
      for (int64_t t = 0; t < tokens; ++t) {
        const float* source = x.data + t * x.token_stride + h * x.head_stride;
        std::byte* row = rows + (h * tokens + t) * stride;
        if (format == ActivationFormat::kF32) {
          std::copy_n(source, k, reinterpret_cast<float*>(row));
        } else {
          kernel(source, row, k);
        }
      }
      kernel_for(ctx, w)({
          .w = quant::rows_at(w, h, 0),
          .w_stride = quant::rows_stride(w),
          .x = rows + h * tokens * stride,
          .x_stride = stride,
          .x_rows = nullptr,
          .y = y.data + h * y.head_stride,
          .y_stride = y.token_stride,
          .n = static_cast<int>(n),
          .k = static_cast<int>(k),
          .t = static_cast<int>(tokens),
      });
    }
  });
}

}  // namespace tandem::ops
