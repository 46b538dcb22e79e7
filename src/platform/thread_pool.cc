// Workers wait for a new loop number: spinning first, then on a futex (std::atomic::wait).
//
// A loop is published by storing its description and then its number. A worker that sees the number
// raises its own flag `inside`, looks whether the loop is still open, takes pieces until none is
// left, and lowers the flag. The caller works too, closes the loop, and waits until no flag is
// raised; a worker that wakes late finds the loop closed and touches nothing of it. So a loop never
// waits for a thread that sleeps or has lost its core, and threads write to one common cache line
// only, the counter of pieces.
#include "platform/thread_pool.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "platform/guided.h"
#include "platform/topology.h"

namespace tandem::platform {
namespace {

// How long a worker spins outside bursts before it sleeps: a bridge over the scheduler's work
// between two steps. Waking a sleeper costs about 50 us.
constexpr std::chrono::microseconds kSpinTime{50};
// Looks at the loop number between two looks at the clock: about 2 us.
constexpr int kLooks = 64;

cpu_set_t only(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  return set;
}

}  // namespace

struct ThreadPool::State {
  static constexpr int kMaxRanges = kMaxStages * kMaxParts;

  // The first line of it is all that a worker reads of a loop of up to four ranges.
  struct alignas(64) Loop {
    std::atomic<uint32_t> number{0};  // odd: open, even: closed
    // Written by the caller while the loop is closed.
    Ranges ranges;
    Invoke invoke = nullptr;
    const void* context = nullptr;
    int64_t grain = 1;
    std::array<int64_t, kMaxRanges> counts = {};
  } loop;
  struct alignas(64) Counter {
    std::atomic<int64_t> next{0};  // number of the first piece not taken yet
  };
  std::array<Counter, kMaxRanges> counters;
  struct alignas(64) Flag {
    std::atomic<uint32_t> inside{0};  // number of the loop that the worker is in, or 0
  };
  std::vector<Flag> flags;  // [size], that of the caller unused

  alignas(64) std::atomic<int32_t> sleepers{0};
  std::atomic<bool> in_burst{false};
  std::atomic<bool> stopping{false};
  bool running = false;  // of the caller, to refuse nesting
  bool spin = true;
  std::vector<int> node_of;       // [size]
  std::vector<int> system_nodes;  // [nodes]
  int caller_cpu = -1;            // that bursts pin the caller to; -1: none
  bool restore_affinity = false;
  cpu_set_t affinity = {};  // of the caller before the burst
  std::vector<std::thread> workers;

  int size() const { return static_cast<int>(node_of.size()); }

  void work(int worker) {
    for (int stage = 0; stage < loop.ranges.stages; ++stage) {
      for (int i = 0; i < loop.ranges.parts; ++i) {
        work_on(stage, (node_of[static_cast<size_t>(worker)] + i) % loop.ranges.parts, worker);
      }
    }
  }

  void work_on(int stage, int part, int worker) {
    const int parts = loop.ranges.parts;
    const auto range = static_cast<size_t>(stage * parts + part);
    const int64_t threads = (size() + parts - 1) / parts;
    const int64_t count = loop.counts[range];
    const int64_t grains = (count + loop.grain - 1) / loop.grain;
    std::atomic<int64_t>& next = counters[range].next;
    for (;;) {
      const Piece piece =
          guided_piece(next.fetch_add(1, std::memory_order_relaxed), grains, threads);
      if (piece.begin == piece.end) break;
      loop.invoke(loop.context, stage, part, piece.begin * loop.grain,
                  std::min(piece.end * loop.grain, count), worker);
    }
  }

  void worker_main(int worker) {
    std::atomic<uint32_t>& inside = flags[static_cast<size_t>(worker)].inside;
    uint32_t seen = 0;
    for (;;) {
      seen = wait_for_change(seen);
      if (stopping.load(std::memory_order_relaxed)) return;
      if (seen % 2 == 0) continue;
      inside.store(seen, std::memory_order_seq_cst);
      // Still the same open loop: the caller cannot leave it before the flag is lowered.
      if (loop.number.load(std::memory_order_seq_cst) == seen) work(worker);
      inside.store(0, std::memory_order_release);
    }
  }

  uint32_t wait_for_change(uint32_t seen) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    while (spin) {
      for (int i = 0; i < kLooks; ++i) {
        const uint32_t current = loop.number.load(std::memory_order_acquire);
        if (current != seen) return current;
        _mm_pause();
      }
      if (in_burst.load(std::memory_order_relaxed)) continue;
      if (std::chrono::steady_clock::now() > deadline) break;
    }
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    loop.number.wait(seen, std::memory_order_seq_cst);
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return loop.number.load(std::memory_order_acquire);
  }

  // Either the caller sees the sleeper here, or the sleeper sees the new number.
  void advance(uint32_t by) {
    loop.number.fetch_add(by, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) loop.number.notify_all();
  }

  void wait_for_workers(uint32_t number) const {
    for (const Flag& flag : flags) {
      while (flag.inside.load(std::memory_order_seq_cst) == number) {
        if (spin) {
          _mm_pause();
        } else {
          std::this_thread::yield();
        }
      }
    }
  }
};

ThreadPool::ThreadPool(const Options& options) : state_(std::make_unique<State>()) {
  State& s = *state_;
  const Topology topology = read_topology();
  const auto cores = static_cast<int>(topology.cores.size());
  const int threads = options.threads > 0 ? options.threads : std::max(cores, 1);
  // With more threads than cores a spinning worker keeps a working one from its core.
  s.spin = threads <= (topology.is_this_machine ? cores : topology.usable_cpus);
  const bool pin = options.pin && s.spin && topology.is_this_machine;

  const std::vector<int> places = place_threads(topology, threads);
  const auto core_of = [&](int thread) -> const Topology::Core& {
    return topology.cores[static_cast<size_t>(places[static_cast<size_t>(thread)])];
  };
  s.flags = std::vector<State::Flag>(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) {
    const int node = topology.nodes[static_cast<size_t>(core_of(i).node)];
    const bool is_new = s.system_nodes.empty() || (options.numa && s.system_nodes.back() != node);
    if (is_new && s.system_nodes.size() < kMaxParts) s.system_nodes.push_back(node);
    s.node_of.push_back(static_cast<int>(s.system_nodes.size()) - 1);
  }
  if (pin) s.caller_cpu = core_of(0).cpu;
  for (int i = 1; i < threads; ++i) {
    s.workers.emplace_back([state = state_.get(), i] { state->worker_main(i); });
    if (!pin) continue;
    const cpu_set_t set = only(core_of(i).cpu);
    // A refusal (a container may forbid it) costs speed only.
    pthread_setaffinity_np(s.workers.back().native_handle(), sizeof set, &set);
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_relaxed);
  state_->advance(2);
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return state_->size(); }
int ThreadPool::nodes() const { return static_cast<int>(state_->system_nodes.size()); }
int ThreadPool::node_of(int worker) const { return state_->node_of[static_cast<size_t>(worker)]; }
int ThreadPool::system_node(int node) const {
  return state_->system_nodes[static_cast<size_t>(node)];
}

void ThreadPool::run(std::span<const int64_t> counts, Ranges ranges, int64_t grain, Invoke invoke,
                     const void* context) {
  State& s = *state_;
  TANDEM_CHECK(grain > 0 && ranges.parts > 0 && ranges.parts <= kMaxParts && ranges.stages > 0 &&
                   ranges.stages <= kMaxStages &&
                   counts.size() == static_cast<size_t>(ranges.stages * ranges.parts),
               "grain {}, {} stages of {} parts, {} counts", grain, ranges.stages, ranges.parts,
               counts.size());
  TANDEM_CHECK(!s.running, "a parallel loop inside a parallel loop");
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  s.running = true;
  if (s.workers.empty() || total <= grain) {
    for (size_t range = 0; range < counts.size(); ++range) {
      const int stage = static_cast<int>(range) / ranges.parts;
      const int part = static_cast<int>(range) % ranges.parts;
      if (counts[range] > 0) invoke(context, stage, part, 0, counts[range], 0);
    }
  } else {
    s.loop.ranges = ranges;
    s.loop.invoke = invoke;
    s.loop.context = context;
    s.loop.grain = grain;
    std::copy(counts.begin(), counts.end(), s.loop.counts.begin());
    for (size_t range = 0; range < counts.size(); ++range) {
      s.counters[range].next.store(0, std::memory_order_relaxed);
    }
    s.advance(1);
    s.work(0);
    const uint32_t number = s.loop.number.fetch_add(1, std::memory_order_seq_cst);  // closes it
    s.wait_for_workers(number);
  }
  s.running = false;
}

void ThreadPool::begin_burst() {
  State& s = *state_;
  if (s.caller_cpu >= 0 && sched_getaffinity(0, sizeof s.affinity, &s.affinity) == 0) {
    const cpu_set_t set = only(s.caller_cpu);
    s.restore_affinity = sched_setaffinity(0, sizeof set, &set) == 0;
  }
  if (s.workers.empty() || !s.spin) return;
  s.in_burst.store(true, std::memory_order_relaxed);
  s.advance(2);  // sleepers wake while the caller prepares its first loop
}

void ThreadPool::end_burst() {
  State& s = *state_;
  s.in_burst.store(false, std::memory_order_relaxed);
  if (s.restore_affinity) sched_setaffinity(0, sizeof s.affinity, &s.affinity);
  s.restore_affinity = false;
}

}  // namespace tandem::platform
