// Rows of the codebook types (IQ1, IQ2, IQ3), which lie in memory as in the file.
#pragma once

#include "kernels/cuda/quant_rows.h"

namespace tandem::cuda {

// decode_rows for those types; false, and nothing done, for others.
bool decode_codebook_rows(const DecodeRowsParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
