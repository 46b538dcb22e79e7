// Grouped-query attention with heads of 128.
#include "kernels/cuda/flashinfer/gqa_launch.cuh"

namespace tandem::cuda::flashinfer {

void launch_gqa_128(const GqaParams& p, cudaStream_t stream) { launch_gqa_of_type<128>(p, stream); }

}  // namespace tandem::cuda::flashinfer
