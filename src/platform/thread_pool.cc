// Workers wait for a new loop number: spinning first, then on a futex (std::atomic::wait).
//
// A loop is published by storing its description and then its number. Workers that see the number
// register in `active`, take pieces from `next` until none is left, and leave. The caller works
// too, then waits until no worker is registered; a worker that wakes late finds the loop closed and
// touches nothing of it.
#include "platform/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "platform/topology.h"

namespace tandem::platform {
namespace {

// How long a worker spins before it sleeps. Loops of a step follow each other within some
// microseconds; waking a sleeper costs about 50 us.
constexpr std::chrono::microseconds kSpinTime{50};

}  // namespace

struct ThreadPool::State {
  // Written by the caller while the loop is closed.
  Invoke invoke = nullptr;
  const void* context = nullptr;
  int64_t count = 0;
  int64_t grain = 1;

  alignas(64) std::atomic<uint32_t> loop{0};   // odd: open, even: closed
  alignas(64) std::atomic<int64_t> next{0};    // first item not taken yet
  alignas(64) std::atomic<int32_t> active{0};  // workers inside the loop
  std::atomic<bool> stopping{false};
  bool running = false;  // of the caller, to refuse nesting
  bool spin = true;
  std::vector<std::thread> workers;

  void work(int worker) {
    for (;;) {
      const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
      if (begin >= count) return;
      invoke(context, begin, std::min(begin + grain, count), worker);
    }
  }

  void worker_main(int worker) {
    uint32_t seen = 0;
    for (;;) {
      const uint32_t current = wait_for_change(seen);
      if (stopping.load(std::memory_order_relaxed)) return;
      seen = current;
      if (current % 2 == 0) continue;
      active.fetch_add(1, std::memory_order_seq_cst);
      // Still the same open loop: the caller cannot leave it before `active` is 0 again.
      if (loop.load(std::memory_order_seq_cst) == current) work(worker);
      active.fetch_sub(1, std::memory_order_release);
    }
  }

  uint32_t wait_for_change(uint32_t seen) const {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    while (spin) {
      for (int i = 0; i < 64; ++i) {
        const uint32_t current = loop.load(std::memory_order_acquire);
        if (current != seen) return current;
        _mm_pause();
      }
      if (std::chrono::steady_clock::now() > deadline) break;
    }
    loop.wait(seen, std::memory_order_acquire);
    return loop.load(std::memory_order_acquire);
  }
};

ThreadPool::ThreadPool(const Options& options) : state_(std::make_unique<State>()) {
  const Topology topology = read_topology();
  const auto cores = static_cast<int>(topology.cores.size());
  const int threads = options.threads > 0 ? options.threads : std::max(cores, 1);
  const bool fits = threads <= cores;
  state_->spin =
      fits;  // with more threads than cores a spinning worker keeps a working one from its core
  for (int i = 1; i < threads; ++i) {
    state_->workers.emplace_back([state = state_.get(), i] { state->worker_main(i); });
    if (!options.pin || !fits) continue;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(topology.cores[static_cast<size_t>(i)]), &set);
    // A refusal (a container may forbid it) costs speed only.
    pthread_setaffinity_np(state_->workers.back().native_handle(), sizeof set, &set);
  }
}

ThreadPool::~ThreadPool() {
  state_->stopping.store(true, std::memory_order_relaxed);
  state_->loop.fetch_add(2, std::memory_order_seq_cst);
  state_->loop.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::run(int64_t count, int64_t grain, Invoke invoke, const void* context) {
  TANDEM_CHECK(grain > 0, "grain {}", grain);
  if (count <= 0) return;
  State& s = *state_;
  TANDEM_CHECK(!s.running, "a parallel loop inside a parallel loop");
  s.running = true;
  if (s.workers.empty() || count <= grain) {
    for (int64_t begin = 0; begin < count; begin += grain) {
      invoke(context, begin, std::min(begin + grain, count), 0);
    }
  } else {
    s.invoke = invoke;
    s.context = context;
    s.count = count;
    s.grain = grain;
    s.next.store(0, std::memory_order_relaxed);
    s.loop.fetch_add(1, std::memory_order_seq_cst);  // open
    s.loop.notify_all();
    s.work(0);
    s.loop.fetch_add(1, std::memory_order_seq_cst);  // closed
    while (s.active.load(std::memory_order_seq_cst) != 0) _mm_pause();
  }
  s.running = false;
}

}  // namespace tandem::platform
