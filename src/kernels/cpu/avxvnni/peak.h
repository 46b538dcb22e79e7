// How many int8 products the instruction set avxvnni does, for the table.
#pragma once

#include <cstdint>

namespace tandem::cpu::avxvnni {

int64_t peak_products(int64_t rounds);

}  // namespace tandem::cpu::avxvnni
