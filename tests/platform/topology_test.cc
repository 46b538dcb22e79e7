// The machine as the process may use it.
#include "platform/topology.h"

#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <sched.h>

namespace tandem::platform {
namespace {

TEST(Topology, CoresAreDistinctAndAllowed) {
  const Topology topology = read_topology();
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  ASSERT_FALSE(topology.cores.empty());
  std::set<int> seen;
  for (const int cpu : topology.cores) {
    EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(cpu), &allowed));
    EXPECT_TRUE(seen.insert(cpu).second);
  }
  EXPECT_GT(topology.memory_bytes, int64_t{1} << 28);
  EXPECT_GT(topology.available_bytes, 0);
  EXPECT_LE(topology.available_bytes, topology.memory_bytes);
  EXPECT_GE(topology.numa_nodes, 1);
}

TEST(Topology, FollowsTheAffinityMask) {
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(read_topology().cores[0]), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) GTEST_SKIP() << "affinity cannot be set here";
    EXPECT_EQ(read_topology().cores.size(), 1U);
  }).join();
}

}  // namespace
}  // namespace tandem::platform
