// What every operator needs besides its operands: threads, kernels, scratch memory.
#pragma once

#include <cstddef>
#include <memory>

#include "base/check.h"
#include "kernels/cpu/kernels.h"
#include "ops/profile.h"
#include "platform/thread_pool.h"

namespace tandem::ops {

// Scratch memory of one step, taken in stack order. Sized at start; running over is our bug.
class Workspace {
 public:
  static constexpr size_t kAlignment = 64;  // a cache line, and the widest vector load

  explicit Workspace(size_t bytes);

  // Gives back at the end of a scope what was taken in it.
  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), mark_(workspace.used_) {}
    ~Scope() { workspace_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    std::byte* bytes(size_t count) { return workspace_.take(count); }
    float* floats(size_t count) {
      return reinterpret_cast<float*>(workspace_.take(count * sizeof(float)));
    }

   private:
    Workspace& workspace_;
    size_t mark_;
  };

  static size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
  size_t capacity() const { return capacity_; }

 private:
  std::byte* take(size_t bytes);

  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t capacity_;
  size_t used_ = 0;
};

struct Context {
  platform::ThreadPool& pool;
  const cpu::Table& cpu;
  Workspace& workspace;
  Profile* profile = nullptr;  // null: not measured
};

}  // namespace tandem::ops
