// The machine by hwloc; the process's limits by the kernel's own files.
#include "platform/topology.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>

#include <hwloc.h>
#include <sched.h>

namespace tandem::platform {
namespace {

// A value of /proc/meminfo in bytes, 0 when missing.
int64_t meminfo(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  int64_t kib = 0;
  std::string rest;
  while (file >> name >> kib) {
    if (name == key + ":") return kib * 1024;
    std::getline(file, rest);
  }
  return 0;
}

// A number in a cgroup file; -1 when missing or "max".
int64_t cgroup_number(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

// Pages of files, which the system drops when their memory is wanted, from a cgroup's statistics.
int64_t cgroup_file_pages(const std::string& path, const std::string& prefix) {
  std::ifstream file(path);
  std::string name;
  int64_t value = 0, bytes = 0;
  while (file >> name >> value) {
    if (name == prefix + "active_file" || name == prefix + "inactive_file") bytes += value;
  }
  return bytes;
}

void apply_cgroup_limit(Topology& topology) {
  struct Files {
    const char *limit, *usage, *statistics, *prefix;
  };
  for (const Files& files : {Files{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current",
                                   "/sys/fs/cgroup/memory.stat", ""},
                             Files{"/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                   "/sys/fs/cgroup/memory/memory.usage_in_bytes",
                                   "/sys/fs/cgroup/memory/memory.stat", "total_"}}) {
    const int64_t limit = cgroup_number(files.limit);
    if (limit <= 0 || limit >= topology.memory_bytes) continue;
    topology.memory_bytes = limit;
    const int64_t usage =
        cgroup_number(files.usage) - cgroup_file_pages(files.statistics, files.prefix);
    topology.available_bytes =
        std::min(topology.available_bytes, limit - std::max<int64_t>(usage, 0));
  }
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

struct DestroyTopology {
  void operator()(hwloc_topology_t t) const { hwloc_topology_destroy(t); }
};

// One allowed logical CPU of each core; empty when hwloc knows no cores.
std::vector<int> first_cpu_of_each_core(hwloc_topology_t machine, const std::vector<int>& allowed) {
  std::vector<int> cores;
  const int count = std::max(hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE), 0);
  for (int i = 0; i < count; ++i) {
    const hwloc_obj_t core =
        hwloc_get_obj_by_type(machine, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
    const auto found = std::find_if(allowed.begin(), allowed.end(), [&](int cpu) {
      return hwloc_bitmap_isset(core->cpuset, static_cast<unsigned>(cpu));
    });
    if (found != allowed.end()) cores.push_back(*found);
  }
  return cores;
}

}  // namespace

Topology read_topology() {
  Topology topology;
  const std::vector<int> allowed = allowed_cpus();
  hwloc_topology_t machine = nullptr;
  if (hwloc_topology_init(&machine) == 0) {
    const std::unique_ptr<hwloc_topology, DestroyTopology> owner(machine);
    if (hwloc_topology_load(machine) == 0) {
      topology.cores = first_cpu_of_each_core(machine, allowed);
      topology.numa_nodes = std::max(hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_NUMANODE), 1);
      const hwloc_obj_t package = hwloc_get_obj_by_type(machine, HWLOC_OBJ_PACKAGE, 0);
      const char* name =
          package == nullptr ? nullptr : hwloc_obj_get_info_by_name(package, "CPUModel");
      if (name != nullptr) topology.cpu_name = name;
    }
  }
  if (topology.cores.empty()) topology.cores = allowed;
  if (topology.cpu_name.empty()) topology.cpu_name = "unknown CPU";
  topology.memory_bytes = meminfo("MemTotal");
  topology.available_bytes = meminfo("MemAvailable");
  apply_cgroup_limit(topology);
  return topology;
}

}  // namespace tandem::platform
