// What launchers share. A launcher enqueues one kernel (or one fixed sequence) on a stream: it
// allocates nothing, waits for nothing and can be captured into a graph.
#pragma once

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// Throws Error where the last launch of this thread was refused.
void check_launch(const char* kernel);

}  // namespace tandem::cuda
