// Sizes of latent attention, its plan's way to the device, and the choice of its kernel.
#include "base/check.h"
#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/mla_launch.h"
#include "kernels/cuda/mla_plan.h"

namespace tandem::cuda {
namespace {

using flashinfer::aligned;

constexpr int kHalfBytes = 2;

size_t query_bytes(const MlaShape& s, int tokens) {
  return aligned(size_t{kHalfBytes} * tokens * s.heads * (kLatentDim + kLatentRope));
}
size_t output_bytes(const MlaShape& s, int tokens) {
  return aligned(size_t{kHalfBytes} * tokens * s.heads * kLatentDim);
}

// Two partial results for each row of each multiprocessor's tile, and their weights.
size_t partial_bytes() {
  const auto rows = static_cast<size_t>(2 * multiprocessors() * kMlaTile);
  return aligned(rows * (kHalfBytes * kLatentDim + sizeof(float)));
}

}  // namespace

AttentionSizes mla_sizes(const MlaShape& s, int tokens) {
  const int processors = multiprocessors();
  const int64_t pieces = mla_pieces(s, tokens, processors);
  return {.plan_bytes = aligned(mla_plan_bytes(pieces, processors)),
          .scratch_bytes = query_bytes(s, tokens) + output_bytes(s, tokens) + partial_bytes(),
          .pieces = pieces};
}

MlaPlan plan_mla(const MlaShape& s, const AttentionBatch& batch, const AttentionSizes& sizes,
                 const AttentionMemory& memory, cudaStream_t stream) {
  if (batch.requests == 0) return {};
  const FilledPlan filled =
      fill_mla_plan(s, batch, sizes.pieces, multiprocessors(), {memory.staged, sizes.plan_bytes});
  flashinfer::call("copying the plan of latent attention", [&] {
    return cudaMemcpyAsync(memory.plan, memory.staged, filled.bytes, cudaMemcpyHostToDevice,
                           stream);
  });
  return filled.plan;
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
             .type = p.cache.type,
             .rounded = {p.rounded, output_width}},
            stream);
}

}  // namespace tandem::cuda
