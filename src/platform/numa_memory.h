// Puts memory on NUMA nodes. Does nothing where there is one node, where the machine is only
// described (HWLOC_SYNTHETIC, HWLOC_XMLFILE), or where the system refuses: placement changes speed,
// never results.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "platform/thread_pool.h"

namespace tandem::platform {

class NumaMemory {
 public:
  explicit NumaMemory(const ThreadPool& pool);  // for the nodes of its threads
  ~NumaMemory();
  NumaMemory(const NumaMemory&) = delete;
  NumaMemory& operator=(const NumaMemory&) = delete;

  // Pages that are touched later, whole ones inside the memory, come from the node (an index as
  // ThreadPool::node_of gives it), and from others only when it is full.
  void bind(std::span<std::byte> memory, int node) const;
  // Pages come from all nodes in turn: for what every thread reads.
  void interleave(std::span<std::byte> memory) const;

 private:
  struct State;
  std::unique_ptr<State> state_;  // null: nothing to do
};

}  // namespace tandem::platform
