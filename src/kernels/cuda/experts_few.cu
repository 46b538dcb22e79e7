// Experts of decode steps: few tokens meet in an expert.
#include "kernels/cuda/experts_jobs.cuh"

namespace tandem::cuda {

void experts_few(const ExpertsParams& params, const ExpertBuffers& buffers, int group_tokens,
                 cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  const auto launch = [&](DType type, const auto& job) {
    with_quant_type(type, [&](auto q) {
      using Q = decltype(q);
      if (group_tokens <= 8) {
        launch_few<Q, 1>(job, buffers.most_groups, small, stream);
      } else {
        launch_few<Q, 2>(job, buffers.most_groups, small, stream);
      }
    });
  };
  launch(params.gate_type, gated_job(params, buffers));
  launch(params.down_type, down_job(params, buffers));
}

}  // namespace tandem::cuda
