// How many int8 products the tile unit does, for the table.
#pragma once

#include <cstdint>

namespace tandem::cpu::amx {

int64_t peak_products(int64_t rounds);

}  // namespace tandem::cpu::amx
