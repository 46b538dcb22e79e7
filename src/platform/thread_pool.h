// A pool of worker threads for the kernels: one parallel loop at a time, issued by one caller,
// which works too. Workers spin shortly after a loop, then sleep, so that an idle pool costs
// nothing.
#pragma once

#include <cstdint>
#include <memory>

namespace tandem::platform {

class ThreadPool {
 public:
  struct Options {
    int threads = 0;  // including the caller; 0: one for each physical core this process may use
    bool pin = true;  // each worker to its core
  };

  explicit ThreadPool(const Options& options);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;  // threads including the caller

  // Calls body(begin, end, worker) over [0, count) in pieces of `grain` items (the last may be
  // shorter) that threads take as they become free; returns when all are done. worker is in [0,
  // size()). The body does not throw. Not reentrant. With one thread or one piece, runs on the
  // caller.
  template <typename Body>
  void parallel_for(int64_t count, int64_t grain, const Body& body) {
    run(
        count, grain,
        [](const void* context, int64_t begin, int64_t end, int worker) {
          (*static_cast<const Body*>(context))(begin, end, worker);
        },
        &body);
  }

 private:
  using Invoke = void (*)(const void* context, int64_t begin, int64_t end, int worker);
  void run(int64_t count, int64_t grain, Invoke invoke, const void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tandem::platform
