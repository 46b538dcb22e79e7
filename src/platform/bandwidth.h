// Measures how fast this machine's cores read and copy memory: the bounds that decode and loading
// are quoted against.
#pragma once

#include <cstdint>

#include "platform/thread_pool.h"

namespace tandem::platform {

// The defaults are for measuring; tests take less.
struct BandwidthOptions {
  int64_t bytes =
      0;  // that are read in a pass, and copied in another; 0: far more than the caches hold
  int passes = 9;  // the best counts, because others may use the machine meanwhile
};

// In bytes per second, by all threads of the pool together.
struct Bandwidth {
  double read;
  double copy;  // from memory to other memory; each byte counts once
};

// On memory that each thread touched first, so that on a machine with several nodes it lies beside
// the thread; in huge pages where the system gives them. Throws Error when there is not enough.
Bandwidth measure_bandwidth(ThreadPool& pool, const BandwidthOptions& options = {});

// The loops that are timed. count is a multiple of 8, the memory aligned to 32 bytes.
uint64_t sum_words(const uint64_t* words, int64_t count);
void copy_words(const uint64_t* from, uint64_t* to, int64_t count);

}  // namespace tandem::platform
