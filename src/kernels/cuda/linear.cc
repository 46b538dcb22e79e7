// Checks products and picks their kernels: by type, and by the number of tokens.
#include "kernels/cuda/linear.h"

#include "base/check.h"
#include "kernels/cuda/linear_float.h"
#include "kernels/cuda/linear_kernels.h"
#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::cuda {
namespace {

void check_x(DType type, int k, const ConstProductRows& x) {
  TANDEM_CHECK(quant::has_panels(type), "no kernel for weights of {}", quant::traits(type).name);
  TANDEM_CHECK(k > 0 && k % quant::traits(type).block_elements == 0, "{} columns of {}", k,
               quant::traits(type).name);
  TANDEM_CHECK(x.stride % 32 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0,
               "rows of x are {} values apart", x.stride);
}

// Whether the kernel for few tokens is the faster one for n rows of output. That for many has
// blocks of 128 rows, each of which walks all columns alone: with few rows most of the GPU has no
// block. With enough of them it is ahead from 17 tokens on, because its warps share the
// activations, of which that for few reads seven times the weights' bytes by then.
constexpr int64_t kRowsForAll = 32768;  // two blocks for every multiprocessor of a large device

bool is_few(int tokens, int64_t n) {
  if (tokens > kFewTokens / 2 && n >= kRowsForAll) return false;
  return tokens <= kFewTokens || (tokens <= 2 * kFewTokens && n <= 4096);
}

bool is_few_gated(int tokens, int64_t n) {
  return tokens <= kFewGatedTokens || (tokens <= 2 * kFewGatedTokens && n <= kRowsForAll / 2);
}

bool is_float(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

}  // namespace

void linear(const LinearParams& params, cudaStream_t stream) {
  TANDEM_CHECK(params.count > 0 && params.count <= kMaxLinearMatrices, "{} matrices", params.count);
  if (params.tokens == 0) return;
  LinearParams same = params;  // matrices of one type
  for (int i = 0; i < params.count; ++i) {
    const LinearMatrix& matrix = params.matrices[i];
    if (is_float(matrix.type)) {
      TANDEM_CHECK(params.k % 8 == 0 && params.x_f32 != nullptr, "{} columns", params.k);
      linear_float(params, i, stream);
      continue;
    }
    bool launched = false;
    for (int j = 0; j < i; ++j) launched |= params.matrices[j].type == matrix.type;
    if (launched) continue;
    check_x(matrix.type, params.k, params.x);
    same.count = 0;
    for (int j = i; j < params.count; ++j) {
      if (params.matrices[j].type == matrix.type) same.matrices[same.count++] = params.matrices[j];
    }
    int64_t rows = 0;
    for (int j = 0; j < same.count; ++j) rows += same.matrices[j].n;
    (is_few(params.tokens, rows) ? linear_few : linear_many)(same, stream);
  }
}

void linear_heads(const HeadsParams& params, cudaStream_t stream) {
  if (params.tokens == 0) return;
  check_x(params.type, params.k, params.x);
  TANDEM_CHECK(params.x_head_stride % 32 == 0, "heads of x are {} values apart",
               params.x_head_stride);
  const bool few = is_few(params.tokens, int64_t{params.heads} * params.n);
  (few ? heads_few : heads_many)(params, stream);
}

void linear_gated(const GatedParams& params, cudaStream_t stream) {
  if (params.tokens == 0) return;
  check_x(params.type, params.k, params.x);
  const bool few = is_few_gated(params.tokens, 2 * int64_t{params.n});
  (few ? gated_few : gated_many)(params, stream);
}

}  // namespace tandem::cuda
