// The kernels of the instruction set avx2, for the table.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::avx2 {

// Fills all kernels in. Compiled for avx2: call it only on a machine that has it.
void fill_table(Table& table);

}  // namespace tandem::cpu::avx2
