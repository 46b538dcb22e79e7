// Latent attention with Hopper's warp group products.
#include <flashinfer/attention/mla_hopper.cuh>

#include "kernels/cuda/flashinfer/mla_launch.cuh"

namespace tandem::cuda {
namespace flashinfer {
namespace {

template <typename Half>
void launch(const MlaParams& p, cudaStream_t stream) {
  call("latent attention", [&] {
    return library::mla::BatchMLAPageAttentionHopper<library::MaskMode::kCausal, kLatentDim,
                                                     kLatentRope>(
        make_params<Half>(p), static_cast<uint32_t>(p.plan.words[kGridX]),
        static_cast<uint32_t>(p.plan.words[kGridY]), stream);
  });
}

}  // namespace

void launch_mla_hopper(const MlaParams& p, cudaStream_t stream) {
  if (p.cache.type == CacheType::kF16) {
    launch<half>(p, stream);
  } else {
    launch<nv_bfloat16>(p, stream);
  }
}

}  // namespace flashinfer

bool has_mla_hopper() { return true; }

}  // namespace tandem::cuda
