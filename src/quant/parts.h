// Stacks of matrices [E, n, k] in parts: each NUMA node holds a share of the rows of every matrix,
// and there is one copy in all. Shares are whole panels, the last may be shorter (or empty).
//
//   part 0:  [E, share, k]  rows 0 .. share-1 of each matrix         padding to 2 MiB
//   part 1:  [E, share, k]  rows share .. 2 share - 1 of each        padding to 2 MiB
//   ...
//
// One part is the plain stack, without padding. Which node's memory a part lies in is decided by
// who allocates it (platform/numa_memory.h); threads of that node should read it.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace tandem::quant {

// A huge page: a part that shared one with its neighbour could not be bound to its node.
inline constexpr int64_t kPartAlignment = int64_t{2} << 20;
// Splitting pays for stacks that the caches do not hold; padding stays below an eighth of them on
// two nodes.
inline constexpr int64_t kLeastBytesToSplit = int64_t{32} << 20;

// Rows of each matrix that a part holds at most: a multiple of kPanelRows.
int64_t rows_per_part(int64_t n, int parts);

struct RowRange {
  int64_t begin, end;
};
// The rows of each matrix [n, k] that a part holds; together the parts hold each row once.
RowRange rows_of_part(int64_t n, int parts, int part);

// Bytes from one part of the stack to the next. With one part: the stack's.
int64_t part_stride(const Tensor& stack);
// Bytes of the whole stack in its layout and parts; needs no data.
int64_t stack_bytes(const Tensor& stack);

// In how many parts a stack of that many bytes should lie on a machine of `nodes` nodes.
inline int parts_for(int64_t bytes, int nodes) { return bytes >= kLeastBytesToSplit ? nodes : 1; }

}  // namespace tandem::quant
