// A matrix for each head.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void heads_few(const HeadsParams& params, cudaStream_t stream) {
  with_quant_type(params.type, [&](auto q) {
    using Q = decltype(q);
    if (params.tokens <= 8) {
      const HeadsJob job = heads_job(params, 8);
      launch_few<Q, 1>(job, int64_t{job.heads} * job.groups, stream);
    } else {
      const HeadsJob job = heads_job(params, kFewTokens);
      launch_few<Q, 4>(job, int64_t{job.heads} * job.groups, stream);
    }
  });
}

void heads_many(const HeadsParams& params, cudaStream_t stream) {
  const HeadsJob job = heads_job(params, kManyTokens);
  with_quant_type(params.type, [&](auto q) {
    launch_many<decltype(q)>(job, int64_t{job.heads} * job.groups, stream);
  });
}

}  // namespace tandem::cuda
