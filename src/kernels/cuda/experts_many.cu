// Experts of prefill: many tokens meet in an expert.
#include "kernels/cuda/experts_jobs.cuh"

namespace tandem::cuda {

void experts_many(const ExpertsParams& params, const ExpertBuffers& buffers, cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  const auto launch = [&](DType type, const auto& job) {
    with_quant_type(
        type, [&](auto q) { launch_many<decltype(q)>(job, buffers.most_groups, small, stream); });
  };
  launch(params.gate_type, gated_job<ExpertGroups>(params, buffers));
  launch(params.down_type, down_job(params, buffers));
}

}  // namespace tandem::cuda
