// Measures how fast this machine's cores read memory: the bound that decode is quoted against.
#pragma once

#include "platform/thread_pool.h"

namespace tandem::platform {

// Bytes per second at which the pool's threads together read a buffer far larger than the caches:
// the best of several passes, because others may use the machine meanwhile.
double measure_read_bandwidth(ThreadPool& pool);

}  // namespace tandem::platform
