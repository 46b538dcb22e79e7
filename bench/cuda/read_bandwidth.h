// Reads memory, for its bandwidth.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::bench {

void read_all(const void* data, int64_t bytes, uint32_t* out, cudaStream_t stream);

}  // namespace tandem::bench
