// The scalar definition of each type, row by row.
#include "kernels/cpu/generic/linear.h"

#include "quant/reference.h"

namespace tandem::cpu::generic {
namespace {

template <DType kType>
void linear(const LinearParams& p) {
  for (int t = 0; t < p.t; ++t) {
    const int64_t row = p.x_rows != nullptr ? p.x_rows[t] : t;
    for (int n = 0; n < p.n; ++n) {
      p.y[t * p.y_stride + n] =
          quant::dot(kType, p.w + n * p.w_stride, p.x + row * p.x_stride, p.k);
    }
  }
}

// One function for each type, because a kernel is told no type.
template <int kId>
LinearFn kernel_of(int id) {
  if constexpr (kId < kDTypeLimit) {
    return id == kId ? linear<static_cast<DType>(kId)> : kernel_of<kId + 1>(id);
  } else {
    return nullptr;
  }
}

}  // namespace

LinearFn linear_kernel(DType dtype) {
  const quant::TypeTraits* traits = quant::find_traits(static_cast<uint32_t>(dtype));
  if (traits == nullptr || !traits->supported) return nullptr;
  return kernel_of<0>(static_cast<int>(dtype));
}

void quantize_a32(const float* x, std::byte* out, int64_t k) {
  quant::quantize_activations(quant::ActivationFormat::kA32, x, out, k);
}

void quantize_a256(const float* x, std::byte* out, int64_t k) {
  quant::quantize_activations(quant::ActivationFormat::kA256, x, out, k);
}

}  // namespace tandem::cpu::generic
