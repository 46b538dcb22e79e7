// The kernels of the instruction set avx512, for the table.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::avx512 {

// Fills all kernels in. Compiled for avx512: call it only on a machine that has it.
void fill_table(Table& table);

}  // namespace tandem::cpu::avx512
