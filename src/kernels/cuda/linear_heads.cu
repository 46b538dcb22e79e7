// A matrix for each head.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void heads_few(const HeadsParams& params, cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  with_quant_type(params.type, [&](auto q) {
    using Q = decltype(q);
    if (params.tokens <= 8) {
      const HeadsJob job = heads_job(params, 8);
      launch_few<Q, 1>(job, int64_t{job.heads} * job.groups, small, stream);
    } else {
      const HeadsJob job = heads_job(params, kFewTokens);
      launch_few<Q, 4>(job, int64_t{job.heads} * job.groups, small, stream);
    }
  });
}

void heads_many(const HeadsParams& params, cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  const HeadsJob job = heads_job(params, many_tokens(small));
  with_quant_type(params.type, [&](auto q) {
    launch_many<decltype(q)>(job, int64_t{job.heads} * job.groups, small, stream);
  });
}

}  // namespace tandem::cuda
