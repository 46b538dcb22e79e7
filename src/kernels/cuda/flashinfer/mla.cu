// Sizes and plans of latent attention, and the choice of its kernel.
#include <algorithm>
#include <vector>

#include <flashinfer/attention/scheduler.cuh>

#include "base/check.h"
#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/mla_launch.h"

namespace tandem::cuda {
namespace {

namespace library = ::flashinfer;
using flashinfer::aligned;
using flashinfer::call;

constexpr int64_t kTile = 64;     // rows (token, head) of a block
constexpr size_t kPadding = 512;  // the library begins each array at a multiple of 16
constexpr int kHalfBytes = 2;

size_t query_bytes(const MlaShape& s, int tokens) {
  return aligned(size_t{kHalfBytes} * tokens * s.heads * (kLatentDim + kLatentRope));
}
size_t output_bytes(const MlaShape& s, int tokens) {
  return aligned(size_t{kHalfBytes} * tokens * s.heads * kLatentDim);
}

// Two pieces for each multiprocessor: a partial result and its weight for each row.
size_t partial_bytes() {
  const auto rows = static_cast<size_t>(2 * flashinfer::multiprocessors() * kTile);
  return aligned(rows * (kHalfBytes * kLatentDim + sizeof(float)) + kPadding);
}

// The library does not check that its arrays hold a plan's pieces of work: one for each query tile,
// and one more for each block at most where keys are split. A tile has 64 rows (token, head), or
// 128 where requests have more than 64 on average.
void check_works(const MlaShape& s, const AttentionBatch& batch) {
  const int64_t rows = int64_t{batch.token_starts[batch.requests]} * s.heads;
  const int64_t tile = rows / batch.requests > kTile ? 2 * kTile : kTile;
  int64_t works = flashinfer::multiprocessors();
  for (int i = 0; i < batch.requests; ++i) {
    const int64_t own = int64_t{batch.token_starts[i + 1] - batch.token_starts[i]} * s.heads;
    works += (own + tile - 1) / tile;
  }
  TANDEM_CHECK(works <= kMlaWorks, "{} pieces of latent attention, {} fit: smaller chunks", works,
               kMlaWorks);
}

}  // namespace

AttentionSizes mla_sizes(const MlaShape& s, int tokens) {
  const size_t words = size_t{9} * kMlaWorks + size_t{5} * flashinfer::multiprocessors();
  return {.plan_bytes = aligned(sizeof(int32_t) * words + kPadding),
          .scratch_bytes = query_bytes(s, tokens) + output_bytes(s, tokens) + partial_bytes()};
}

MlaPlan plan_mla(const MlaShape& s, const AttentionBatch& batch, const AttentionSizes& sizes,
                 const AttentionMemory& memory, cudaStream_t stream) {
  MlaPlan plan;
  if (batch.requests == 0) return plan;
  check_works(s, batch);
  library::MLAPlanInfo info;
  size_t staged_bytes = 0;
  call("planning latent attention", [&] {
    return library::MLAPlan<int32_t>(
        memory.scratch, sizes.scratch_bytes, memory.plan, memory.staged, sizes.plan_bytes, info,
        staged_bytes, flashinfer::readable(batch.token_starts),
        flashinfer::readable(batch.page_starts), flashinfer::readable(batch.keys),
        static_cast<uint32_t>(batch.requests), static_cast<uint32_t>(s.heads), kLatentDim,
        /*causal=*/true, stream);
  });
  call("copying the plan of latent attention", [&] {
    return cudaMemcpyAsync(memory.plan, memory.staged, staged_bytes, cudaMemcpyHostToDevice,
                           stream);
  });
  const std::vector<int64_t> words = info.ToVector();
  std::copy(words.begin(), words.end(), plan.words.begin());
  return plan;
}

namespace flashinfer {

MlaScratch cut_mla_scratch(const MlaParams& p) {
  std::byte* queries = p.memory.scratch;
  std::byte* outputs = queries + query_bytes(p.shape, p.tokens);
  return {
      .queries = queries, .outputs = outputs, .partial = outputs + output_bytes(p.shape, p.tokens)};
}

}  // namespace flashinfer

void mla_attention(const MlaParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.cache.dim == kLatentDim + kLatentRope, "rows of {}", p.cache.dim);
  if (p.plan == MlaPlan{}) return;
  const flashinfer::MlaScratch scratch = flashinfer::cut_mla_scratch(p);
  const int64_t query_width = int64_t{p.shape.heads} * (kLatentDim + kLatentRope);
  const int64_t output_width = int64_t{p.shape.heads} * kLatentDim;
  if (p.q != nullptr) {
    to_halves({.x = p.q,
               .x_stride = query_width,
               .out = scratch.queries,
               .n = query_width,
               .rows = p.tokens,
               .type = p.cache.type},
              stream);
  }
  if (p.form == MlaForm::kHopper) {
    flashinfer::launch_mla_hopper(p, stream);
  } else {
    flashinfer::launch_mla_ampere(p, stream);
  }
  to_floats({.x = scratch.outputs,
             .out = p.out,
             .out_stride = output_width,
             .n = output_width,
             .rows = p.tokens,
             .type = p.cache.type},
            stream);
}

}  // namespace tandem::cuda
