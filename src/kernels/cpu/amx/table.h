// The kernels of the instruction set amx, for the table: those of avx512, with matrix products of
// many tokens on tile registers.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::amx {

// Fills all kernels in. Compiled for avx512 and amx: call it only on a machine that has both, in a
// process that the operating system granted tile registers.
void fill_table(Table& table);

}  // namespace tandem::cpu::amx
