// The machine as the process may use it.
#include "platform/topology.h"

#include <cstdlib>
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
  for (const Topology::Core& core : topology.cores) {
    EXPECT_TRUE(CPU_ISSET(static_cast<size_t>(core.cpu), &allowed));
    EXPECT_TRUE(seen.insert(core.cpu).second);
    ASSERT_GE(core.node, 0);
    ASSERT_LT(core.node, static_cast<int>(topology.nodes.size()));
  }
  EXPECT_TRUE(topology.is_this_machine);
  EXPECT_EQ(topology.usable_cpus, CPU_COUNT(&allowed));
  EXPECT_GT(topology.memory_bytes, int64_t{1} << 28);
  EXPECT_GT(topology.available_bytes, 0);
  EXPECT_LE(topology.available_bytes, topology.memory_bytes);
}

TEST(Topology, FollowsTheAffinityMask) {
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(read_topology().cores[0].cpu), &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) GTEST_SKIP() << "affinity cannot be set here";
    EXPECT_EQ(read_topology().cores.size(), 1U);
  }).join();
}

class DescribedMachine : public ::testing::Test {
 protected:
  static Topology described(const char* text) {
    setenv("HWLOC_SYNTHETIC", text, 1);
    Topology topology = read_topology();
    unsetenv("HWLOC_SYNTHETIC");
    return topology;
  }
  // Node of each of `threads` threads.
  static std::vector<int> nodes_of(const Topology& topology, int threads) {
    std::vector<int> nodes;
    for (const int core : place_threads(topology, threads)) {
      nodes.push_back(topology.cores[static_cast<size_t>(core)].node);
    }
    return nodes;
  }
};

TEST_F(DescribedMachine, CoresKnowTheirNode) {
  const Topology topology = described("node:2 core:4 pu:2");
  EXPECT_FALSE(topology.is_this_machine);
  EXPECT_EQ(topology.nodes, (std::vector<int>{0, 1}));
  ASSERT_EQ(topology.cores.size(), 8U);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(topology.cores[static_cast<size_t>(i)].node, i / 4);
    EXPECT_EQ(topology.cores[static_cast<size_t>(i)].cpu, 2 * i) << "one of the core's two";
  }
}

TEST_F(DescribedMachine, ThreadsAreSharedAmongNodesByTheirCores) {
  const Topology two = described("node:2 core:4 pu:1");
  EXPECT_EQ(place_threads(two, 8), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(place_threads(two, 4), (std::vector<int>{0, 1, 4, 5}));
  EXPECT_EQ(nodes_of(two, 5), (std::vector<int>{0, 0, 1, 1, 1}));
  EXPECT_EQ(nodes_of(two, 1).size(), 1U);
  EXPECT_EQ(nodes_of(two, 20),
            (std::vector<int>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  const Topology three = described("node:3 core:2 pu:1");
  EXPECT_EQ(nodes_of(three, 3), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(nodes_of(three, 6), (std::vector<int>{0, 0, 1, 1, 2, 2}));
}

}  // namespace
}  // namespace tandem::platform
