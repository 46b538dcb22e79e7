// Instantiates the panel kernels for avx2.
#include "kernels/cpu/avx2/isa.h"
#include "kernels/cpu/avx2/linear.h"
#include "kernels/cpu/x86/panels.inl.h"

namespace tandem::cpu::avx2 {

LinearFn panel_kernel(DType dtype) {
  const LinearFn kernel = x86::panel256_kernel<Isa>(dtype);
  return kernel != nullptr ? kernel : x86::panel32_kernel<Isa>(dtype);
}

}  // namespace tandem::cpu::avx2
