// What the GPU reserves to run routed experts out of host memory (--stream_experts).
#pragma once

#include <cstdint>

#include "gguf/file.h"

namespace tandem::engine {

// Of the largest layer's routed experts in the layout of the GPU's kernels, in one part; each stack
// rounded up to 256 bytes.
int64_t largest_expert_layer_bytes(const gguf::File& file);

}  // namespace tandem::engine
