// Rows of random weights of every type: any codes and sub-scales, finite factors of moderate size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "quant/types.h"

namespace tandem::testing {

inline constexpr DType kWeightTypes[] = {
    DType::kF32,    DType::kF16,     DType::kBF16,   DType::kQ4_0,  DType::kQ4_1,    DType::kQ5_0,
    DType::kQ5_1,   DType::kQ8_0,    DType::kQ2_K,   DType::kQ3_K,  DType::kQ4_K,    DType::kQ5_K,
    DType::kQ6_K,   DType::kIQ4_NL,  DType::kIQ4_XS, DType::kIQ3_S, DType::kIQ3_XXS, DType::kIQ2_S,
    DType::kIQ2_XS, DType::kIQ2_XXS, DType::kIQ1_S,  DType::kIQ1_M, DType::kMXFP4,
};

// Byte offsets of the half-precision factors in a block.
inline std::vector<int> half_factors(DType type) {
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108};
    case DType::kQ6_K:
      return {208};
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kMXFP4:
    case DType::kIQ1_M:
      return {};
    default:
      return {0};
  }
}

// Sets the factors of a block: `value` gives a float of moderate size.
template <typename Value>
void set_factors(DType type, std::byte* block, const Value& value) {
  for (const int offset : half_factors(type)) {
    const auto factor = static_cast<_Float16>(value() * 0.01F);
    std::memcpy(block + offset, &factor, 2);
  }
  if (type == DType::kMXFP4) {
    block[0] = static_cast<std::byte>(120 + static_cast<int>(value()));
  }
  if (type == DType::kIQ1_M) {  // the top bits of the factor are those of the last scale word
    block[55] = (block[55] & std::byte{0x0f}) | std::byte{0x20};
  }
}

// `rows` rows of k weights, `stride` bytes apart.
inline std::vector<std::byte> random_weights(DType type, int64_t rows, int64_t k, int64_t stride,
                                             uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  const auto value = [&] { return normal(generator); };
  const quant::TypeTraits& traits = quant::traits(type);
  std::vector<std::byte> data(static_cast<size_t>(rows * stride));
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* row = data.data() + r * stride;
    for (int64_t i = 0; i < quant::row_bytes(type, k); ++i) {
      row[i] = static_cast<std::byte>(generator());
    }
    for (int64_t block = 0; block < k / traits.block_elements; ++block) {
      std::byte* p = row + block * traits.block_bytes;
      if (traits.block_elements > 1) {
        set_factors(type, p, value);
        continue;
      }
      const float weight = value();
      const auto half = static_cast<_Float16>(weight);
      if (type == DType::kF32) {
        std::memcpy(p, &weight, 4);
      } else if (type == DType::kF16) {
        std::memcpy(p, &half, 2);
      } else {
        std::memcpy(p, reinterpret_cast<const char*>(&weight) + 2, 2);  // the upper half
      }
    }
  }
  return data;
}

inline std::vector<float> random_floats(int64_t n, float size, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, size);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(generator);
  return x;
}

}  // namespace tandem::testing
