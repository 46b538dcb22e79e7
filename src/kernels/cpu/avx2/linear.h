// Matrix products and quantisation of activations for the instruction set avx2.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::avx2 {

// Null where the type has no kernel.
LinearFn linear_kernel(DType dtype);
LinearFn panel_kernel(DType dtype);  // of a type with panels
PackFn pack_kernel(DType dtype);

void quantize_a32(const float* x, std::byte* out, int64_t k);
void quantize_a256(const float* x, std::byte* out, int64_t k);

}  // namespace tandem::cpu::avx2
