// Point tables of the codebook types: part of the file format's definition.
#pragma once

#include <cstdint>

namespace tandem::quant {

struct Codebooks {
  int8_t iq2_xxs[256][8];
  int8_t iq2_xs[512][8];
  int8_t iq2_s[1024][8];
  int8_t iq3_xxs[256][4];
  int8_t iq3_s[512][4];
  int8_t iq1[2048][8];
};

// Expanded from their compressed form at first use.
const Codebooks& codebooks();

}  // namespace tandem::quant
