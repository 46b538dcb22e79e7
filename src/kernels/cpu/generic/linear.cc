// The scalar definition of each type, row by row; rows of panels are put together again first.
#include "kernels/cpu/generic/linear.h"

#include <memory>

#include "quant/panels.h"
#include "quant/reference.h"

namespace tandem::cpu::generic {
namespace {

// The row in the file's order; `storage` holds it when it had to be put together.
const std::byte* row_of(const LinearParams& p, DType dtype, int n, std::byte* storage) {
  if (!quant::has_panels(dtype)) return p.w + n * p.w_stride;
  quant::unpack_row(dtype, p.w + n / quant::kPanelRows * p.w_stride, n % quant::kPanelRows, p.k,
                    storage);
  return storage;
}

template <DType kType>
void linear(const LinearParams& p) {
  // The definition may allocate: it is not made to be fast.
  const std::unique_ptr<std::byte[]> storage(
      new std::byte[static_cast<size_t>(quant::row_bytes(kType, p.k))]);
  for (int n = 0; n < p.n; ++n) {
    const std::byte* w = row_of(p, kType, n, storage.get());
    for (int t = 0; t < p.t; ++t) {
      const int64_t row = p.x_rows != nullptr ? p.x_rows[t] : t;
      p.y[t * p.y_stride + n] = quant::dot(kType, w, p.x + row * p.x_stride, p.k);
    }
  }
}

template <DType kType>
void pack(const PackParams& p) {
  quant::pack_panel(kType, p.rows, p.row_stride, p.count, p.k, p.panel);
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

template <int kId>
PackFn pack_of(int id) {
  if constexpr (kId < kDTypeLimit) {
    return id == kId ? pack<static_cast<DType>(kId)> : pack_of<kId + 1>(id);
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

PackFn pack_kernel(DType dtype) {
  return quant::has_panels(dtype) ? pack_of<0>(static_cast<int>(dtype)) : nullptr;
}

void quantize_a32(const float* x, std::byte* out, int64_t k) {
  quant::quantize_activations(quant::ActivationFormat::kA32, x, out, k);
}

void quantize_a256(const float* x, std::byte* out, int64_t k) {
  quant::quantize_activations(quant::ActivationFormat::kA256, x, out, k);
}

}  // namespace tandem::cpu::generic
