// The kernel table of CPUs with AVX-VNNI but without AVX-512.
#pragma once

#include "kernels/cpu/kernels.h"

namespace tandem::cpu::avxvnni {

void fill_table(Table& table);

}  // namespace tandem::cpu::avxvnni
