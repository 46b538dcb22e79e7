// How many int8 products the instruction set avx2 does, for the table.
#pragma once

#include <cstdint>

namespace tandem::cpu::avx2 {

int64_t peak_products(int64_t rounds);

}  // namespace tandem::cpu::avx2
