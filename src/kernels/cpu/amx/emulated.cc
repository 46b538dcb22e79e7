// A file of its own, so that the linker leaves it out of programs that do not ask for it.
#include "kernels/cpu/amx/emulated.h"

#include "kernels/cpu/amx/emulated_tiles.h"
#include "kernels/cpu/amx/latent.inl.h"
#include "kernels/cpu/amx/linear.inl.h"

namespace tandem::cpu::amx {

void fill_emulated_table(Table& table) {
  table.attention = attention<EmulatedTiles>;
  for (int id = 0; id < kDTypeLimit; ++id) {
    table.linear[static_cast<size_t>(id)] = kernel_on<EmulatedTiles>(static_cast<DType>(id));
  }
}

}  // namespace tandem::cpu::amx
