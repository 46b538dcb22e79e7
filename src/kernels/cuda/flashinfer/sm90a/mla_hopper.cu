// Latent attention with Hopper's warp group products.
#include <flashinfer/attention/mla_hopper.cuh>

#include "kernels/cuda/flashinfer/mla_launch.cuh"

namespace tandem::cuda {
namespace flashinfer {
namespace {

template <typename Half>
void launch(const MlaParams& p, cudaStream_t stream) {
  const library::MLAPlanInfo plan = plan_info(p.plan);
  call("latent attention", [&] {
    return library::mla::BatchMLAPageAttentionHopper<library::MaskMode::kCausal, kLatentDim,
                                                     kLatentRope>(
        make_params<Half>(p, plan), static_cast<uint32_t>(plan.num_blks_x),
        static_cast<uint32_t>(plan.num_blks_y), stream);
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
