// A pool of worker threads for the kernels: one parallel loop at a time, issued by one caller,
// which works too. Each thread has a core, and through it a NUMA node. Workers spin while a step
// lasts and shortly after a loop, then sleep, so that an idle pool costs nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace tandem::platform {

class ThreadPool {
 public:
  static constexpr int kMaxParts = 8;  // of a loop: NUMA nodes of the largest usual machines
  static constexpr int kMaxStages = 2;

  struct Options {
    int threads = 0;   // including the caller; 0: one for each physical core this process may use
    bool pin = true;   // each thread to its core, the caller while a Burst lives
    bool numa = true;  // false: all threads count as being on one node
  };

  explicit ThreadPool(const Options& options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;                 // threads including the caller
  int nodes() const;                // NUMA nodes that have threads, kMaxParts at most
  int node_of(int worker) const;    // in [0, nodes())
  int system_node(int node) const;  // its number in the operating system

  // Calls body(begin, end, worker) over [0, count) in pieces that threads take as they become free,
  // long ones first (platform/guided.h); pieces begin at multiples of `grain`, the least that is
  // worth taking. Returns when all are done. worker is in [0, size()). The body does not throw. Not
  // reentrant. With one thread or no more than one grain, runs on the caller.
  template <typename Body>
  void parallel_for(int64_t count, int64_t grain, const Body& body) {
    run(
        {&count, 1}, {1, 1}, grain,
        [](const void* context, int, int, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(begin, end, worker);
        },
        &body);
  }

  // The same over ranges [0, counts[stage * parts + part]), as body(stage, part, begin, end,
  // worker). Threads of node i begin a stage with part i (modulo the number of parts) and help with
  // the others when it is done. Stages are not divided by a barrier: a thread goes on to the next
  // when all pieces of a stage are taken, by threads that are at work on them. So a body may wait
  // for what pieces of earlier stages do.
  template <typename Body>
  void parallel_for_stages(std::span<const int64_t> counts, int parts, int64_t grain,
                           const Body& body) {
    const Ranges ranges{static_cast<int16_t>(static_cast<int>(counts.size()) / parts),
                        static_cast<int16_t>(parts)};
    run(
        counts, ranges, grain,
        [](const void* context, int stage, int part, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(stage, part, begin, end, worker);
        },
        &body);
  }

  // Loops that follow each other closely, those of a step: while a Burst lives, waiting workers do
  // not sleep, and the calling thread, which must be the one that issues the loops, stays on the
  // core that no worker has. Afterwards it has its former affinity again.
  class Burst {
   public:
    explicit Burst(ThreadPool& pool) : pool_(pool) { pool_.begin_burst(); }
    ~Burst() { pool_.end_burst(); }
    Burst(const Burst&) = delete;
    Burst& operator=(const Burst&) = delete;

   private:
    ThreadPool& pool_;
  };

 private:
  struct Ranges {
    int16_t stages = 0, parts = 0;
  };
  using Invoke = void (*)(const void* context, int stage, int part, int64_t begin, int64_t end,
                          int worker);
  void run(std::span<const int64_t> counts, Ranges ranges, int64_t grain, Invoke invoke,
           const void* context);
  void begin_burst();
  void end_burst();

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::platform
