// Matrices on their way from a file's rows to the layout that kernels read, by all threads.
#pragma once

#include <functional>
#include <span>

#include "base/tensor.h"
#include "ops/context.h"

namespace tandem::ops {

struct Packing {
  Tensor to;  // a matrix [n, k] or a stack [E, n, k]
  // Copies bytes of its rows as the file holds them, `offset` counted from the first row. Called by
  // any thread; may throw.
  std::function<void(int64_t offset, std::span<std::byte> out)> read;
};

// Fills all of them, in their order as far as several threads keep one. on_bytes, which may be
// empty, is called on this thread now and then with the bytes done so far. Throws what `read` and
// on_bytes throw.
void pack(Context& ctx, std::span<const Packing> packings,
          const std::function<void(int64_t bytes)>& on_bytes);

}  // namespace tandem::ops
