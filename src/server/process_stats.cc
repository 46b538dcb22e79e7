// Reads /proc/self.
#include "server/process_stats.h"

#include <filesystem>
#include <fstream>

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

namespace tandem::server {
namespace {

std::string metric(const char* name, const char* type, const char* help, double value) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n", name, help, type, value);
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

}  // namespace

std::string process_metrics() {
  std::string out;
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    out += metric("process_cpu_seconds_total", "counter", "User and system time",
                  seconds(usage.ru_utime) + seconds(usage.ru_stime));
  }
  int64_t total = 0, resident = 0;
  if (std::ifstream("/proc/self/statm") >> total >> resident) {
    out += metric("process_resident_memory_bytes", "gauge", "Memory in use",
                  static_cast<double>(resident * sysconf(_SC_PAGESIZE)));
  }
  std::error_code error;
  const std::filesystem::directory_iterator descriptors("/proc/self/fd", error);
  if (!error) {
    // Less the one that lists them.
    out += metric("process_open_fds", "gauge", "Open file descriptors",
                  static_cast<double>(std::distance(begin(descriptors), end(descriptors)) - 1));
  }
  return out;
}

}  // namespace tandem::server
