// What every operator needs besides its operands: threads, kernels, scratch memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/check.h"
#include "kernels/cpu/kernels.h"
#include "ops/profile.h"
#include "platform/thread_pool.h"

namespace tandem::ops {

// Scratch memory of one step, taken in stack order. Sized at start; running over is our bug.
class Workspace {
 public:
  // Four cache lines: what CUDA's own allocations have, and FlashInfer expects.
  static constexpr size_t kAlignment = 256;

  explicit Workspace(size_t bytes);
  // Over memory that the caller owns, of the host or of a device, aligned as above.
  explicit Workspace(std::span<std::byte> memory)
      : data_(memory.data()), capacity_(memory.size()) {}

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
  std::unique_ptr<std::byte, Free> owned_;
  std::byte* data_;
  size_t capacity_;
  size_t used_ = 0;
};

class Gpu;

struct Context {
  platform::ThreadPool& pool;
  const cpu::Table& cpu;
  Workspace& workspace;        // where activations are: on the GPU if there is one
  Profile* profile = nullptr;  // null: not measured
  Gpu* gpu = nullptr;          // null: everything happens on the CPU
  // With a GPU: scratch on the host, for operators whose weights are there.
  Workspace* host_workspace = nullptr;
};

}  // namespace tandem::ops
