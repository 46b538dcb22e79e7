// Device memory that lives as long as its owner, and how much of it may still be taken: what is
// free on the card or, of a limit that stands for a smaller card, what is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "platform/cuda/memory.h"

namespace tandem::ops {

class DeviceBudget {
 public:
  // limit: bytes that this process may take from now on; 0: all that is free.
  explicit DeviceBudget(int64_t limit);

  // Aligned to 256 bytes. Throws Error with what was wanted, for what, and what is left.
  std::byte* allocate(int64_t bytes, const char* purpose);
  // Of a limit, all that was taken since the start is gone, graphs and libraries' buffers included.
  int64_t free_bytes() const;

 private:
  int64_t limit_;
  int64_t free_at_start_;
  std::vector<platform::cuda::DeviceMemory> memory_;
};

}  // namespace tandem::ops
