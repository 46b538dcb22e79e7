// Memory policies of address ranges, by hwloc.
#include "platform/numa_memory.h"

#include <vector>

#include <hwloc.h>

#include "platform/topology.h"

namespace tandem::platform {
namespace {

struct FreeBitmap {
  void operator()(hwloc_bitmap_t b) const { hwloc_bitmap_free(b); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, FreeBitmap>;

}  // namespace

struct NumaMemory::State {
  hwloc_topology_t machine = nullptr;
  std::vector<int> nodes;  // the system's numbers

  ~State() {
    if (machine != nullptr) hwloc_topology_destroy(machine);
  }

  void place(std::span<std::byte> memory, hwloc_const_bitmap_t set,
             hwloc_membind_policy_t policy) const {
    hwloc_set_area_membind(machine, memory.data(), memory.size(), set, policy,
                           HWLOC_MEMBIND_BYNODESET);
  }
};

NumaMemory::NumaMemory(const ThreadPool& pool) {
  if (pool.nodes() < 2 || !read_topology().is_this_machine) return;
  auto state = std::make_unique<State>();
  if (hwloc_topology_init(&state->machine) != 0) {
    state->machine = nullptr;
    return;
  }
  if (hwloc_topology_load(state->machine) != 0) return;
  for (int node = 0; node < pool.nodes(); ++node) {
    state->nodes.push_back(pool.system_node(node));
  }
  state_ = std::move(state);
}

NumaMemory::~NumaMemory() = default;

void NumaMemory::bind(std::span<std::byte> memory, int node) const {
  if (!state_ || memory.empty()) return;
  const Bitmap set(hwloc_bitmap_alloc());
  hwloc_bitmap_set(set.get(), static_cast<unsigned>(state_->nodes.at(static_cast<size_t>(node))));
  state_->place(memory, set.get(), HWLOC_MEMBIND_BIND);
}

void NumaMemory::interleave(std::span<std::byte> memory) const {
  if (!state_ || memory.empty()) return;
  const Bitmap set(hwloc_bitmap_alloc());
  for (const int node : state_->nodes) hwloc_bitmap_set(set.get(), static_cast<unsigned>(node));
  state_->place(memory, set.get(), HWLOC_MEMBIND_INTERLEAVE);
}

}  // namespace tandem::platform
