// One small file or call for each fact.
#include "platform/system_facts.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tandem::platform {
namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The word in brackets: "always [madvise] never".
std::string chosen(const std::string& line) {
  const size_t begin = line.find('['), end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return line.substr(begin + 1, end - begin - 1);
}

std::vector<std::string> cpu_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(std::min(line.find(':') + 1, line.size())));
    std::vector<std::string> flags;
    for (std::string word; words >> word;) flags.push_back(word);
    return flags;
  }
  return {};
}

std::optional<int64_t> cgroup_limit() {
  // Without a limit the second kind of files holds a number near 2^63.
  constexpr int64_t kNoLimit = int64_t{1} << 60;
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    int64_t value = 0;
    if (file >> value && value > 0 && value < kNoLimit) return value;
  }
  return std::nullopt;
}

std::optional<int64_t> locked_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return static_cast<int64_t>(limit.rlim_cur);
}

std::string io_uring_problem() {
  io_uring ring{};
  const int status = io_uring_queue_init(4, &ring, 0);
  if (status < 0) return std::strerror(-status);
  io_uring_queue_exit(&ring);
  return {};
}

}  // namespace

bool SystemFacts::has_cpu(const std::string& flag) const {
  return std::find(cpu_flags.begin(), cpu_flags.end(), flag) != cpu_flags.end();
}

SystemFacts read_system_facts() {
  return {.cpu_flags = cpu_flags(),
          .huge_pages = chosen(first_line("/sys/kernel/mm/transparent_hugepage/enabled")),
          .governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
          .locked_limit = locked_limit(),
          .cgroup_memory = cgroup_limit(),
          .smt = first_line("/sys/devices/system/cpu/smt/active") == "1",
          .io_uring = io_uring_problem()};
}

std::optional<std::string> port_problem(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::strerror(errno);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  const bool ok = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                  listen(fd, 1) == 0;
  const int error = errno;
  close(fd);
  if (ok) return std::nullopt;
  return std::string(std::strerror(error));
}

}  // namespace tandem::platform
