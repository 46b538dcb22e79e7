// Instantiates the shared x86 kernels for avx512.
#include "kernels/cpu/avx512/linear.h"

#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/avx512/vec16.h"
#include "kernels/cpu/lanes/linear_float.inl.h"
#include "kernels/cpu/x86/codebook_rows.inl.h"
#include "kernels/cpu/x86/quantize.inl.h"

namespace tandem::cpu::avx512 {
namespace {

// AVX-512 VNNI: both in one instruction, on 256-bit vectors.
struct Isa {
  static __m256i multiply_add(__m256i acc, __m256i products, __m256i scales) {
    return _mm256_dpwssd_epi32(acc, products, scales);
  }
};

}  // namespace

LinearFn linear_kernel(DType dtype) {
  if (const LinearFn kernel = lanes::float_kernel<Vec16>(dtype)) return kernel;
  if (const LinearFn kernel = x86::codebook_kernel<Isa>(dtype)) return kernel;
  return panel_kernel(dtype);
}

PackFn pack_kernel(DType dtype) { return avx2::pack_kernel(dtype); }

void quantize_a32(const float* x, std::byte* out, int64_t k) { x86::quantize_a32<Isa>(x, out, k); }

void quantize_a256(const float* x, std::byte* out, int64_t k) {
  x86::quantize_a256<Isa>(x, out, k);
}

}  // namespace tandem::cpu::avx512
