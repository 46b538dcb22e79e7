// The scalar truth: what each type means. Every kernel is tested for equality, bit for bit, with
// these functions.
//
// dequantize equals the `gguf` Python package's dequantiser bit for bit.
//
// dot walks blocks in order, starting from acc = 0; da and a are the d and the integers of
// quant/activation.h:
//  - 256-wide: I = sum_j sc_j * (q_j . a_j) and M = sum_j m_j * sum(a_j) in int32 over the whole
//    super-block, then acc = fma(d * da, float(I), acc) and, for types with minima,
//    acc = fma(-(dmin * da), float(M), acc).
//  - 32-wide: acc = fma(d * da, float(q . a), acc) and, for types with minima,
//    acc = fma(m * da, float(sum(a)), acc).
//  - codebook types are 256-wide ones without minima. Their fractions move into d by powers of two,
//    exactly, so that q and sc are integers (s: the stored scale):
//      IQ2_XXS IQ2_XS IQ2_S   d / 8, sc = 2 s + 1, q = +-point
//      IQ3_XXS                d / 4, sc = 2 s + 1, q = +-point
//      IQ3_S                  d,     sc = 2 s + 1, q = +-point
//      IQ1_S IQ1_M            d / 8, sc = 2 s + 1, q = 8 point +- 1
//  - float weights: 16 virtual lanes, lane l takes k = l, l + 16, ... by fma, then the fixed tree
//    of reduce16. Lanes beyond the end of the row are left alone.
// No integer overflows: the largest |I|, Q6_K's, is 256 * 32 * 127 * 128 < 2^27.
#pragma once

#include <cstdint>

#include "quant/activation.h"
#include "quant/types.h"

namespace tandem::quant {

// block row of n elements -> floats. n is a multiple of the type's block.
void dequantize(DType dtype, const void* row, float* out, int64_t n);

// Floats -> activations of a format (kF32 copies).
void quantize_activations(ActivationFormat format, const float* x, void* out, int64_t k);

// One weight row of k elements with one activation row in traits(dtype).activation.
float dot(DType dtype, const void* weight_row, const void* activation_row, int64_t k);

// Sum of 16 lanes: ((l0+l8)+(l4+l12)) + ((l2+l10)+(l6+l14)) and so on: lanes i and i+8, then i and
// i+4, i+2, i+1.
float reduce16(const float* lanes);

}  // namespace tandem::quant
