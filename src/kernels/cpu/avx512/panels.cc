// Instantiates the panel kernels for avx512.
#include "kernels/cpu/avx512/isa.h"
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/x86/panels.inl.h"

namespace tandem::cpu::avx512 {

LinearFn panel_kernel(DType dtype) {
  const LinearFn kernel = x86::panel256_kernel<Isa>(dtype);
  return kernel != nullptr ? kernel : x86::panel32_kernel<Isa>(dtype);
}

}  // namespace tandem::cpu::avx512
