// Latent attention on the tensor cores that every GPU from Ampere on has.
#include <flashinfer/attention/mla.cuh>

#include "kernels/cuda/flashinfer/mla_launch.cuh"

namespace tandem::cuda::flashinfer {
namespace {

template <typename Half>
void launch(const MlaParams& p, cudaStream_t stream) {
  call("latent attention", [&] {
    return library::mla::BatchMLAPagedAttention<library::MaskMode::kCausal, kLatentDim,
                                                kLatentRope>(
        make_params<Half>(p), static_cast<uint32_t>(p.plan.words[kGridX]),
        static_cast<uint32_t>(p.plan.words[kGridY]), stream);
  });
}

}  // namespace

void launch_mla_ampere(const MlaParams& p, cudaStream_t stream) {
  if (p.cache.type == CacheType::kF16) {
    launch<half>(p, stream);
  } else {
    launch<nv_bfloat16>(p, stream);
  }
}

}  // namespace tandem::cuda::flashinfer
