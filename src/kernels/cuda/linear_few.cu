// Linear layers for up to 32 tokens.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void linear_few(const LinearParams& params, cudaStream_t stream) {
  const LinearJob job = linear_job(params, kFewTokens);
  with_quant_type(params.matrices[0].type, [&](auto q) {
    using Q = decltype(q);
    if (job.tokens <= 8) {
      launch_few<Q, 1>(job, 1, stream);
    } else if (job.tokens <= 16) {
      launch_few<Q, 2>(job, 1, stream);
    } else {
      launch_few<Q, 4>(job, 1, stream);
    }
  });
}

}  // namespace tandem::cuda
