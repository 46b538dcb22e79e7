// Sizes and plans of grouped-query attention, and the choice of its kernels.
#include <algorithm>
#include <numeric>
#include <vector>

#include <flashinfer/attention/scheduler.cuh>

#include "base/check.h"
#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/gqa_launch.h"

namespace tandem::cuda {
namespace {

namespace library = ::flashinfer;
using flashinfer::aligned;
using flashinfer::call;

// Rows of a query tile, at most and at least, as the library chooses them.
constexpr int64_t kLargestTile = 128, kSmallestTile = 16;
// Blocks that the library keeps on a multiprocessor when it splits keys.
constexpr int64_t kBlocksPerMultiprocessor = 2;

size_t query_bytes(const GqaShape& s, int tokens) {
  return aligned(size_t{2} * static_cast<size_t>(tokens) * s.heads * s.dim);
}

struct Size {
  size_t plan, partial;
};

// A plan for launching once. Keys are split only as far as the device has room for the pieces, so
// there are at most so many pieces of split queries; without splits there is one for each query
// tile.
Size launch_size(const GqaShape& s, int64_t tokens, int64_t requests) {
  const int64_t group = s.heads / s.kv_heads;
  const int64_t room = kBlocksPerMultiprocessor * multiprocessors() / s.kv_heads;
  const int64_t tiles = (tokens * group + kSmallestTile - 1) / kSmallestTile + requests;
  const int64_t pieces = std::max(room, tiles);
  const int64_t rows = (room * kLargestTile + group - 1) / group;
  const int64_t words = 3 * pieces + (requests + 1) + (tokens + 1) + 1;
  constexpr int64_t kPadding = 16 * 16;  // each of a dozen arrays begins at a multiple of 16
  return {.plan = aligned(static_cast<size_t>(4 * words + kPadding)),
          .partial = aligned(static_cast<size_t>(4 * s.heads * rows * (s.dim + 1) + kPadding))};
}

// A graph's plan has the same size whatever the requests are, so any will do to measure it.
Size graph_size(const GqaShape& s, int requests) {
  std::vector<int32_t> starts(static_cast<size_t>(requests) + 1);
  std::iota(starts.begin(), starts.end(), 0);
  size_t partial = 0, plan = 0;
  call("sizing grouped-query attention", [&] {
    return library::PrefillPlanWorkspaceSize<int32_t>(
        partial, plan, starts.data(), starts.data(), static_cast<uint32_t>(requests),
        static_cast<uint32_t>(requests), static_cast<uint32_t>(s.heads),
        static_cast<uint32_t>(s.kv_heads), static_cast<uint32_t>(s.dim),
        static_cast<uint32_t>(s.dim), static_cast<uint32_t>(s.page_size),
        /*enable_cuda_graph=*/true, sizeof(float), /*window_left=*/-1, /*fixed_split_size=*/-1,
        /*disable_split_kv=*/false, /*num_colocated_ctas=*/0, /*uniform_q_len=*/0, nullptr);
  });
  return {.plan = aligned(plan), .partial = aligned(partial)};
}

}  // namespace

bool gqa_supports(const GqaShape& s) {
  return (s.dim == 64 || s.dim == 128) && s.kv_heads > 0 && s.heads % s.kv_heads == 0;
}

AttentionSizes gqa_sizes(const GqaShape& s, int tokens, int requests, PlanFor purpose) {
  const Size size =
      purpose == PlanFor::kGraph ? graph_size(s, requests) : launch_size(s, tokens, requests);
  return {.plan_bytes = size.plan, .scratch_bytes = query_bytes(s, tokens) + size.partial};
}

GqaPlan plan_gqa(const GqaShape& s, const AttentionBatch& batch, PlanFor purpose,
                 const AttentionSizes& sizes, const AttentionMemory& memory, cudaStream_t stream) {
  const int32_t tokens = batch.requests == 0 ? 0 : batch.token_starts[batch.requests];
  const bool graph = purpose == PlanFor::kGraph;
  GqaPlan plan;
  if (tokens == 0) return plan;
  const int32_t rows = graph ? batch.requests : tokens;
  TANDEM_CHECK(tokens <= rows, "{} tokens of {} requests in a graph", tokens, batch.requests);
  library::PrefillPlanInfo info;
  call("planning grouped-query attention", [&] {
    return library::PrefillPlan<int32_t>(
        memory.scratch, sizes.scratch_bytes, memory.plan, memory.staged, sizes.plan_bytes, info,
        flashinfer::readable(batch.token_starts), flashinfer::readable(batch.page_starts),
        static_cast<uint32_t>(rows), static_cast<uint32_t>(batch.requests),
        static_cast<uint32_t>(s.heads), static_cast<uint32_t>(s.kv_heads),
        static_cast<uint32_t>(s.dim), static_cast<uint32_t>(s.dim),
        static_cast<uint32_t>(s.page_size), graph, sizeof(float), /*window_left=*/-1,
        /*fixed_split_size=*/-1, /*disable_split_kv=*/false, /*num_colocated_ctas=*/0,
        /*uniform_q_len=*/0, stream);
  });
  const std::vector<int64_t> words = info.ToVector();
  std::copy(words.begin(), words.end(), plan.words.begin());
  return plan;
}

namespace flashinfer {

GqaScratch cut_gqa_scratch(const GqaParams& p) {
  return {.queries = p.memory.scratch,
          .partial = p.memory.scratch + query_bytes(p.shape, p.tokens)};
}

bool merges(const GqaPlan& plan) {
  library::PrefillPlanInfo info;
  info.FromVector({plan.words.begin(), plan.words.end()});
  return info.split_kv;
}

}  // namespace flashinfer

void gqa_attention(const GqaParams& p, cudaStream_t stream) {
  TANDEM_CHECK(gqa_supports(p.shape), "heads of {}, {} for {}", p.shape.dim, p.shape.heads,
               p.shape.kv_heads);
  if (p.plan == GqaPlan{}) return;
  const int64_t width = int64_t{p.shape.heads} * p.shape.dim;
  if (p.q != nullptr) {
    to_halves({.x = p.q,
               .x_stride = width,
               .out = flashinfer::cut_gqa_scratch(p).queries,
               .n = width,
               .rows = p.tokens,
               .type = p.cache.type},
              stream);
  }
  if (p.shape.dim == 64) {
    flashinfer::launch_gqa_64(p, stream);
  } else {
    flashinfer::launch_gqa_128(p, stream);
  }
  if (p.rounded != nullptr && !flashinfer::merges(p.plan)) {
    round_for_products(
        {.x = p.out, .x_stride = width, .out = {p.rounded, width}, .n = width, .rows = p.tokens},
        stream);
  }
}

}  // namespace tandem::cuda
