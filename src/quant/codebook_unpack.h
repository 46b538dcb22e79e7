// Decodes the types whose codes index a table of points (IQ1, IQ2, IQ3).
#pragma once

#include "quant/unpack.h"

namespace tandem::quant {

// Null for other types.
UnpackSuperBlock unpack_codebook(DType dtype);

}  // namespace tandem::quant
