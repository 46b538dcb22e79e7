// Groups of few (token, rank) pairs by one block: a thread for each pair counts those that come
// before its own.
#pragma once

#include "kernels/cuda/experts_group.h"

namespace tandem::cuda {

template <int kPairs>
struct alignas(16) GroupScratch {
  int ids[kPairs];
  int2 starts[kPairs];         // by slot: {expert, tokens} where a group begins, else {-1, 0}
  int groups_of[kPairs / 32];  // groups that begin among a warp's slots
};

// All threads of a block of whole warps, at most kPairs and at least one for each pair.
template <int kPairs>
__device__ void list_groups(const GroupParams& p, GroupScratch<kPairs>& s) {
  const int i = threadIdx.x, pairs = p.tokens * p.used, warp = i / 32;
  int expert = i < pairs ? p.ids[i] : -1;
  if (expert < 0 || expert >= p.experts) expert = -1;
  s.ids[i] = expert;
  s.starts[i] = {-1, 0};
  __syncthreads();

  int lower = 0, before = 0, same = 0;  // pairs of lower experts, of the same one before, in all
  for (int j = 0; j < pairs; j += 4) {
    const int4 four = *reinterpret_cast<const int4*>(s.ids + j);
    const auto count = [&](int other, int at) {
      lower += static_cast<unsigned>(other) < static_cast<unsigned>(expert);  // -1 is the highest
      before += other == expert && at < i;
      same += other == expert;
    };
    count(four.x, j);
    count(four.y, j + 1);
    count(four.z, j + 2);
    count(four.w, j + 3);
  }
  const int slot = lower + before;
  if (i < pairs) p.slot_of[i] = expert < 0 ? -1 : slot;
  if (expert >= 0) {
    p.slot_token[slot] = i / p.used;
    if (before % p.group_tokens == 0) s.starts[slot] = {expert, min(p.group_tokens, same - before)};
  }
  __syncthreads();

  const int2 own = s.starts[i];
  const unsigned begins = __ballot_sync(0xffffffffU, own.x >= 0);
  if (i % 32 == 0) s.groups_of[warp] = __popc(begins);
  __syncthreads();
  int group = __popc(begins & ((1U << i % 32) - 1U));
  for (int w = 0; w < warp; ++w) group += s.groups_of[w];
  if (own.x >= 0) p.groups[group] = {own.x, i, own.y, 0};
  if (i == static_cast<int>(blockDim.x) - 1) *p.group_count = group + (own.x >= 0 ? 1 : 0);
}

}  // namespace tandem::cuda
