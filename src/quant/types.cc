// The traits table.
#include "quant/types.h"

#include <array>

#include "base/check.h"

namespace tandem::quant {
namespace {

using enum ActivationFormat;

// Block sizes as in the GGUF specification's table of types.
constexpr std::array kTraits = std::to_array<TypeTraits>({
    {DType::kF32, "F32", 1, 4, kF32, true},
    {DType::kF16, "F16", 1, 2, kF32, true},
    {DType::kBF16, "BF16", 1, 2, kF32, true},
    {DType::kQ4_0, "Q4_0", 32, 18, kA32, true},
    {DType::kQ4_1, "Q4_1", 32, 20, kA32, true},
    {DType::kQ5_0, "Q5_0", 32, 22, kA32, true},
    {DType::kQ5_1, "Q5_1", 32, 24, kA32, true},
    {DType::kQ8_0, "Q8_0", 32, 34, kA32, true},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18, kA32, true},
    {DType::kMXFP4, "MXFP4", 32, 17, kA32, true},
    {DType::kQ2_K, "Q2_K", 256, 84, kA256, true},
    {DType::kQ3_K, "Q3_K", 256, 110, kA256, true},
    {DType::kQ4_K, "Q4_K", 256, 144, kA256, true},
    {DType::kQ5_K, "Q5_K", 256, 176, kA256, true},
    {DType::kQ6_K, "Q6_K", 256, 210, kA256, true},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136, kA256, true},
    {DType::kIQ3_S, "IQ3_S", 256, 110, kA256, true},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, kA256, true},
    {DType::kIQ2_S, "IQ2_S", 256, 82, kA256, true},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74, kA256, true},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, kA256, true},
    {DType::kIQ1_S, "IQ1_S", 256, 50, kA256, true},
    {DType::kIQ1_M, "IQ1_M", 256, 56, kA256, true},
    {DType::kI8, "I8", 1, 1, kF32, false},
    {DType::kI16, "I16", 1, 2, kF32, false},
    {DType::kI32, "I32", 1, 4, kF32, false},
    {DType::kI64, "I64", 1, 8, kF32, false},
    {DType::kF64, "F64", 1, 8, kF32, false},
});

}  // namespace

const TypeTraits* find_traits(uint32_t ggml_type_id) {
  for (const TypeTraits& t : kTraits) {
    if (static_cast<uint32_t>(t.dtype) == ggml_type_id) return &t;
  }
  return nullptr;
}

const TypeTraits& traits(DType dtype) {
  const TypeTraits* found = find_traits(static_cast<uint32_t>(dtype));
  TANDEM_CHECK(found != nullptr, "no traits for type id {}", static_cast<int>(dtype));
  return *found;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (const TypeTraits& t : kTraits) {
    if (t.name == name) return t.dtype;
  }
  return std::nullopt;
}

int64_t row_bytes(DType dtype, int64_t n) {
  const TypeTraits& t = traits(dtype);
  TANDEM_CHECK(n % t.block_elements == 0, "{} elements in rows of {}", n, t.name);
  return n / t.block_elements * t.block_bytes;
}

}  // namespace tandem::quant
