// What the machine is made of, as far as tandem uses it: cores that this process may run on, their
// NUMA nodes, memory, names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::platform {

struct Topology {
  struct Core {
    int cpu;   // one logical CPU of the core, in the process's affinity mask
    int node;  // index into `nodes`
  };

  std::string cpu_name;
  std::vector<Core> cores;  // one entry for each physical core, node by node
  std::vector<int> nodes;   // the system's numbers of the NUMA nodes that have such cores
  // False for a machine that is only described (HWLOC_SYNTHETIC, HWLOC_XMLFILE): then nothing is
  // bound to its cores and nodes.
  bool is_this_machine = true;
  int usable_cpus = 1;          // logical CPUs in the process's affinity mask, of the true machine
  int64_t memory_bytes = 0;     // of the machine, or of its cgroup when that is less
  int64_t available_bytes = 0;  // what the system can free of file pages included
};

Topology read_topology();  // by hwloc; throws Error

// The core of each of `threads` threads, an index into topology.cores. Nodes get shares in
// proportion to their cores, a node's threads follow each other, and while there are cores enough
// no core gets two.
std::vector<int> place_threads(const Topology& topology, int threads);

}  // namespace tandem::platform
