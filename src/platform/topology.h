// What the machine is made of, as far as tandem uses it: cores that this process may run on,
// memory, names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::platform {

struct Topology {
  std::string cpu_name;
  std::vector<int> cores;  // one logical CPU of each physical core in the process's affinity mask
  int numa_nodes = 1;
  int64_t memory_bytes = 0;     // of the machine, or of its cgroup when that is less
  int64_t available_bytes = 0;  // what the system can free of file pages included
};

Topology read_topology();  // by hwloc; throws Error

}  // namespace tandem::platform
