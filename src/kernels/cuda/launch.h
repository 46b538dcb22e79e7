// What launchers share. A launcher enqueues one kernel (or one fixed sequence) on a stream: it
// allocates nothing, waits for nothing and can be captured into a graph.
#pragma once

#include <cuda_runtime_api.h>

namespace tandem::cuda {

// Throws Error where the last launch of this thread was refused.
void check_launch(const char* kernel);

// Whether kernels may be launched before the one ahead of them has ended (launch.cuh): from compute
// capability 9.0 on.
bool has_dependent_launch();

// Of the current device.
int multiprocessors();
int compute_capability();     // 10 * major + minor
int most_shared_bytes();      // of a block's shared memory
int shared_bytes_together();  // of a multiprocessor's, for all its blocks

// Whether this binary holds code that the current device runs.
bool has_code_for_device();

}  // namespace tandem::cuda
