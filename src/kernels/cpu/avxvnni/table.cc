// The avx2 table with the kernels of integer products replaced.
#include "kernels/cpu/avxvnni/table.h"

#include "kernels/cpu/avx2/table.h"
#include "kernels/cpu/avxvnni/ints16.h"
#include "kernels/cpu/avxvnni/isa.h"
#include "kernels/cpu/avxvnni/peak.h"
#include "kernels/cpu/lanes/attention.inl.h"
#include "kernels/cpu/x86/panels.inl.h"

namespace tandem::cpu::avxvnni {

void fill_table(Table& table) {
  avx2::fill_table(table);
  table.attention = lanes::attention<Vec16, Ints16>;
  table.peak_products = peak_products;
  for (int id = 0; id < kDTypeLimit; ++id) {
    const auto dtype = static_cast<DType>(id);
    if (!quant::has_panels(dtype)) continue;
    const LinearFn kernel = x86::panel256_kernel<Isa>(dtype);
    table.linear[static_cast<size_t>(id)] =
        kernel != nullptr ? kernel : x86::panel32_kernel<Isa>(dtype);
  }
}

}  // namespace tandem::cpu::avxvnni
