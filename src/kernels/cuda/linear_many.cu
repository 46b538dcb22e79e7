// Linear layers for many tokens, with and without gate.
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

void linear_many(const LinearParams& params, cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  const LinearJob job = linear_job(params, many_tokens(small));
  with_quant_type(params.matrices[0].type,
                  [&](auto q) { launch_many<decltype(q)>(job, job.groups, small, stream); });
}

void gated_many(const GatedParams& params, cudaStream_t stream) {
  const bool small = wants_small(params.shared_bytes);
  const auto job = gated_job(params, many_tokens(small));
  with_quant_type(params.type,
                  [&](auto q) { launch_many<decltype(q)>(job, job.groups, small, stream); });
}

}  // namespace tandem::cuda
