// Matrix products of many tokens with quantised panels on tile registers: the kernel of each type.
#pragma once

#include "kernels/cpu/amx/blocks_32.inl.h"
#include "kernels/cpu/amx/linear_256.inl.h"
#include "kernels/cpu/amx/linear_32.inl.h"
#include "kernels/cpu/amx/super_blocks.inl.h"
#include "kernels/cpu/avx512/linear.h"

namespace tandem::cpu::amx {

// With fewer tokens, decoding a block into tiles and filling the pipeline takes longer than the
// vector kernels, which decode once for 8 tokens: a panel of a super-block costs here some 130
// cycles for decoding and 130 for up to 16 tokens, there some 60 and then 50 a token.
inline constexpr int kFewestTokens = 9;

template <template <typename, typename> class Kernel, typename Type, typename TilesType>
static void linear(const LinearParams& p) {
  // Tiles are loaded from rows at equal distances.
  if (p.t < kFewestTokens || p.x_rows != nullptr) {
    avx512::linear_kernel(Type::kType)(p);
    return;
  }
  Kernel<Type, TilesType>::run(p);
}

// On real or on emulated tile registers; null where the type has no panels.
template <typename TilesType>
static LinearFn kernel_on(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return linear<Linear32, Q4_0, TilesType>;
    case DType::kQ4_1:
      return linear<Linear32, Q4_1, TilesType>;
    case DType::kQ5_0:
      return linear<Linear32, Q5_0, TilesType>;
    case DType::kQ5_1:
      return linear<Linear32, Q5_1, TilesType>;
    case DType::kQ8_0:
      return linear<Linear32, Q8_0, TilesType>;
    case DType::kIQ4_NL:
      return linear<Linear32, Iq4Nl, TilesType>;
    case DType::kMXFP4:
      return linear<Linear32, Mxfp4, TilesType>;
    case DType::kQ2_K:
      return linear<Linear256, Q2K, TilesType>;
    case DType::kQ3_K:
      return linear<Linear256, Q3K, TilesType>;
    case DType::kQ4_K:
      return linear<Linear256, Q4K, TilesType>;
    case DType::kQ5_K:
      return linear<Linear256, Q5K, TilesType>;
    case DType::kQ6_K:
      return linear<Linear256, Q6K, TilesType>;
    case DType::kIQ4_XS:
      return linear<Linear256, Iq4Xs, TilesType>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::amx
