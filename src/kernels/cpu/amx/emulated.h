// The kernels of the amx table on emulated tile registers, for tests on machines without.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::amx {

// Fills in what the amx table has of its own. Compiled for avx512: call it only on a machine that
// has it.
void fill_emulated_table(Table& table);

}  // namespace tandem::cpu::amx
