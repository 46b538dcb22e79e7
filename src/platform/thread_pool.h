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
        {&count, 1}, grain,
        [](const void* context, int, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(begin, end, worker);
        },
        &body);
  }

  // The same over several ranges [0, counts[part]), as body(part, begin, end, worker). Threads of
  // node i begin with part i (modulo the number of parts) and help with the others when it is done.
  template <typename Body>
  void parallel_for_parts(std::span<const int64_t> counts, int64_t grain, const Body& body) {
    run(
        counts, grain,
        [](const void* context, int part, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(part, begin, end, worker);
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
  using Invoke = void (*)(const void* context, int part, int64_t begin, int64_t end, int worker);
  void run(std::span<const int64_t> counts, int64_t grain, Invoke invoke, const void* context);
  void begin_burst();
  void end_burst();

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::platform
