// Grouped-query attention with heads of 64.
#include "kernels/cuda/flashinfer/gqa_launch.cuh"

namespace tandem::cuda::flashinfer {

void launch_gqa_64(const GqaParams& p, cudaStream_t stream) { launch_gqa_of_type<64>(p, stream); }

}  // namespace tandem::cuda::flashinfer
