// Fills the amx kernel table: the avx512 one with other matrix products and latent attention.
#include "kernels/cpu/amx/table.h"

#include "kernels/cpu/amx/latent.inl.h"
#include "kernels/cpu/amx/linear.inl.h"
#include "kernels/cpu/amx/peak.h"
#include "kernels/cpu/amx/tiles.h"
#include "kernels/cpu/avx512/table.h"

namespace tandem::cpu::amx {

void fill_table(Table& table) {
  avx512::fill_table(table);
  table.attention = attention<Tiles>;
  table.peak_products = peak_products;
  for (int id = 0; id < kDTypeLimit; ++id) {
    if (const LinearFn kernel = kernel_on<Tiles>(static_cast<DType>(id))) {
      table.linear[static_cast<size_t>(id)] = kernel;
    }
  }
}

}  // namespace tandem::cpu::amx
