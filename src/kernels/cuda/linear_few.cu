// Linear layers for few tokens.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void linear_few(const LinearParams& params, cudaStream_t stream) {
  const LinearJob job = linear_job(params, kFewTokens);
  const bool small = wants_small(params.shared_bytes);
  with_quant_type(params.matrices[0].type, [&](auto q) {
    using Q = decltype(q);
    if (job.tokens <= 8) {
      launch_few<Q, 1>(job, 1, small, stream);
    } else if (job.tokens <= 16) {
      launch_few<Q, 2>(job, 1, small, stream);
    } else {
      launch_few<Q, 4>(job, job.groups, small, stream);
    }
  });
}

}  // namespace tandem::cuda
