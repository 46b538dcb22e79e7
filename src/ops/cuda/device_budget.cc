// The card's own count of what is free, against the limit.
#include "ops/cuda/device_budget.h"

#include <algorithm>

#include "base/error.h"
#include "platform/cuda/error.h"

namespace tandem::ops {
namespace {

// Plans leave room, so something else has taken it, or the plan counted too little.
constexpr const char* kAdvice =
    "end what else uses the GPU, take a smaller --cache_lens or --chunk_size, or keep experts in "
    "host memory with --cpu_moe or a larger --n-cpu-moe";

int64_t free_on_card() {
  size_t free = 0, total = 0;
  TANDEM_CUDA_CALL(cudaMemGetInfo(&free, &total));
  return static_cast<int64_t>(free);
}

}  // namespace

DeviceBudget::DeviceBudget(int64_t limit) : limit_(limit), free_at_start_(free_on_card()) {}

std::byte* DeviceBudget::allocate(int64_t bytes, const char* purpose) {
  if (limit_ > 0 && bytes > free_bytes()) {
    throw Error("{} on the GPU: {} MiB are wanted, of --gpu_memory_gb {} MiB are left; {}", purpose,
                (bytes >> 20) + 1, std::max<int64_t>(free_bytes(), 0) >> 20, kAdvice);
  }
  try {
    return memory_.emplace_back(static_cast<size_t>(bytes)).data();
  } catch (const Error& error) {
    throw Error("{} on the GPU: {}; {}", purpose, error.what(), kAdvice);
  }
}

int64_t DeviceBudget::free_bytes() const {
  const int64_t free = free_on_card();
  return limit_ > 0 ? std::min(free, limit_ - (free_at_start_ - free)) : free;
}

}  // namespace tandem::ops
