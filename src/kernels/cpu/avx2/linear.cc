// Instantiates the shared x86 kernels for avx2.
#include "kernels/cpu/avx2/linear.h"

#include "kernels/cpu/avx2/vec16.h"
#include "kernels/cpu/lanes/linear_float.inl.h"
#include "kernels/cpu/x86/codebook_rows.inl.h"
#include "kernels/cpu/x86/quantize.inl.h"

namespace tandem::cpu::avx2 {
namespace {

// AVX2: multiply, then add.
struct Isa {
  static __m256i multiply_add(__m256i acc, __m256i products, __m256i scales) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(products, scales));
  }
};

}  // namespace

LinearFn linear_kernel(DType dtype) {
  if (const LinearFn kernel = lanes::float_kernel<Vec16>(dtype)) return kernel;
  if (const LinearFn kernel = x86::codebook_kernel<Isa>(dtype)) return kernel;
  return panel_kernel(dtype);
}

void quantize_a32(const float* x, std::byte* out, int64_t k) { x86::quantize_a32<Isa>(x, out, k); }

void quantize_a256(const float* x, std::byte* out, int64_t k) {
  x86::quantize_a256<Isa>(x, out, k);
}

}  // namespace tandem::cpu::avx2
