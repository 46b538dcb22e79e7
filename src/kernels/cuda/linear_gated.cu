// Gated linear layers for up to 16 tokens.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void gated_few(const GatedParams& params, cudaStream_t stream) {
  const auto job = gated_job(params, kFewGatedTokens);
  with_quant_type(params.type, [&](auto q) {
    using Q = decltype(q);
    if (job.tokens <= 8) {
      launch_few<Q, 1>(job, 1, stream);
    } else {
      launch_few<Q, 2>(job, 1, stream);
    }
  });
}

}  // namespace tandem::cuda
