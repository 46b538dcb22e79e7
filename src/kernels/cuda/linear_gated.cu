// Gated linear layers for few tokens.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void gated_few(const GatedParams& params, cudaStream_t stream) {
  const auto job = gated_job(params, kFewGatedTokens);
  const bool small = wants_small(params.shared_bytes);
  with_quant_type(params.type, [&](auto q) {
    using Q = decltype(q);
    if (job.tokens <= 8) {
      launch_few<Q, 1>(job, 1, small, stream);
    } else {
      launch_few<Q, 2>(job, job.groups, small, stream);
    }
  });
}

}  // namespace tandem::cuda
