// How many int8 products the instruction set generic does, for the table.
#pragma once

#include <cstdint>

namespace tandem::cpu::generic {

int64_t peak_products(int64_t rounds);

}  // namespace tandem::cpu::generic
