// Facts agree with what the system says elsewhere; missing files are no failure.
#include "platform/system_facts.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tandem::platform {
namespace {

TEST(SystemFacts, AreThisMachines) {
  const SystemFacts facts = read_system_facts();
  EXPECT_TRUE(facts.has_cpu("avx2"));
  EXPECT_FALSE(
      facts.has_cpu("avx"
                    "99"));
  EXPECT_EQ(facts.has_cpu("avx512f"), __builtin_cpu_supports("avx512f") != 0);
  for (const auto& bytes : {facts.locked_limit, facts.cgroup_memory}) {
    EXPECT_GT(bytes.value_or(1), 0);
  }
  if (!facts.huge_pages.empty()) {
    EXPECT_TRUE(facts.huge_pages == "always" || facts.huge_pages == "madvise" ||
                facts.huge_pages == "never")
        << facts.huge_pages;
  }
}

TEST(SystemFacts, APortInUseIsAProblem) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GE(fd, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const int port = ntohs(address.sin_port);
  EXPECT_TRUE(port_problem(port).has_value());
  close(fd);
  EXPECT_EQ(port_problem(port), std::nullopt);
}

}  // namespace
}  // namespace tandem::platform
