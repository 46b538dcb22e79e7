// One traits table for the element types of GGUF files: block geometry, and which activation format
// a weight row of the type is multiplied with. Scalar decode and dot products, which define each
// type, are in quant/reference.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace tandem::quant {

// How the other operand of a dot product is stored (quant/activation.h).
enum class ActivationFormat : uint8_t {
  kF32,   // plain floats: for F32, F16 and BF16 weights
  kA32,   // int8 in blocks of 32: for the 32-wide types
  kA256,  // int8 in blocks of 256: for the 256-wide types
};

struct TypeTraits {
  DType dtype;
  std::string_view name;  // as ggml spells it, e.g. "Q4_K"
  int block_elements;     // elements in a block
  int block_bytes;        // bytes of a block
  ActivationFormat activation;
  bool supported;  // false: known by name, refused as a weight
};

// Traits of a type id of the container; nothing for ids that GGUF does not define (or has removed).
const TypeTraits* find_traits(uint32_t ggml_type_id);
const TypeTraits& traits(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);

// Bytes of a row of n elements; n is a multiple of block_elements.
int64_t row_bytes(DType dtype, int64_t n);

}  // namespace tandem::quant
