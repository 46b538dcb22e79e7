// From values to constants, for kernels that are compiled once for each count or element type.
#pragma once

#include <type_traits>

#include "base/dtype.h"

namespace tandem::cpu::lanes {

// Calls body with n as a constant type, 1 <= n <= kMax.
template <int kMax, typename Body>
inline void with_constant(int n, const Body& body) {
  if constexpr (kMax > 1) {
    if (n < kMax) return with_constant<kMax - 1>(n, body);
  }
  body(std::integral_constant<int, kMax>{});
}

// Calls body with the element type as a constant.
template <typename Body>
inline void with_dtype(DType dtype, const Body& body) {
  if (dtype == DType::kF16) {
    body(std::integral_constant<DType, DType::kF16>{});
  } else if (dtype == DType::kBF16) {
    body(std::integral_constant<DType, DType::kBF16>{});
  } else {
    body(std::integral_constant<DType, DType::kF32>{});
  }
}

}  // namespace tandem::cpu::lanes
