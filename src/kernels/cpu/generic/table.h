// The kernels of the instruction set generic, for the table.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::generic {

// Fills all kernels in. Compiled for generic: call it only on a machine that has it.
void fill_table(Table& table);

}  // namespace tandem::cpu::generic
