// Which GPUs there are, in plain values: for the planner and for reports. The same on a machine or
// in a build without CUDA, where the list is empty and the reason says why.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::platform {

struct Gpu {
  std::string name;
  int compute = 0;  // 10 * major + minor of the compute capability: 80, 86, 89, 90, 100, 120
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t free_bytes = 0;  // at the time of the call
};

struct Gpus {
  std::vector<Gpu> list;
  std::string missing;  // one line: why the list is empty
  // Of CUDA, 1000 * major + 10 * minor: the newest that the driver runs, and what the program was
  // built with. 0: no driver, or no GPU parts in the build.
  int driver_cuda = 0;
  int built_cuda = 0;
};

Gpus find_gpus();

}  // namespace tandem::platform
