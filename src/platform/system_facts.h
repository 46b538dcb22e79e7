// Settings of the system that speed and start-up depend on, read from the kernel's files. A file
// that is missing, as in containers, gives an empty value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::platform {

struct SystemFacts {
  std::vector<std::string> cpu_flags;    // of /proc/cpuinfo
  std::string huge_pages;                // "always", "madvise", "never": transparent ones
  std::string governor;                  // of the first CPU's frequency
  std::optional<int64_t> locked_limit;   // RLIMIT_MEMLOCK in bytes; none: unlimited
  std::optional<int64_t> cgroup_memory;  // the process's group's limit in bytes; none: unlimited
  bool smt = false;                      // cores run two threads each
  std::string io_uring;                  // empty: it can be used; else why not
  bool has_cpu(const std::string& flag) const;
};

SystemFacts read_system_facts();

// Whether a TCP port of all addresses can be listened on; else why not.
std::optional<std::string> port_problem(int port);

}  // namespace tandem::platform
