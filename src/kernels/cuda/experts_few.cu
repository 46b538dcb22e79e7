// Experts of decode steps: few tokens meet in an expert.
#include "kernels/cuda/experts_jobs.cuh"

namespace tandem::cuda {
namespace {

template <int kTokenTiles, typename Job>
void launch(const ExpertsParams& params, DType type, const Job& job, int64_t groups,
            cudaStream_t stream) {
  with_quant_type(type, [&](auto q) {
    launch_few<decltype(q), kTokenTiles>(job, groups, wants_small(params.shared_bytes), stream);
  });
}

}  // namespace

void experts_few(const ExpertsParams& params, const ExpertBuffers& buffers,
                 const GroupParams& grouping, cudaStream_t stream) {
  const int64_t groups = buffers.most_groups;
  const DownJob down = down_job(params, buffers);
  if (grouping.group_tokens > 8) {
    group_tokens(grouping, stream);
    launch<2>(params, params.gate_type, gated_job<ExpertGroups>(params, buffers), groups, stream);
    launch<2>(params, params.down_type, down, groups, stream);
    return;
  }
  // Grouping is a part of the first kernel where a block has a thread for each pair.
  if (params.tokens * params.used <= kFewThreads) {
    auto job = gated_job<OwnGroups>(params, buffers);
    job.params = grouping;
    launch<1>(params, params.gate_type, job, groups, stream);
  } else {
    group_tokens(grouping, stream);
    launch<1>(params, params.gate_type, gated_job<ExpertGroups>(params, buffers), groups, stream);
  }
  launch<1>(params, params.down_type, down, groups, stream);
}

}  // namespace tandem::cuda
