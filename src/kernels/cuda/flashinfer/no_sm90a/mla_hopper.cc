// A build for other architectures has no Hopper form.
#include "base/check.h"
#include "kernels/cuda/flashinfer/mla_launch.h"

namespace tandem::cuda {
namespace flashinfer {

void launch_mla_hopper(const MlaParams&, cudaStream_t) {
  TANDEM_CHECK(has_mla_hopper(), "the caller asks first");
}

}  // namespace flashinfer

bool has_mla_hopper() { return false; }

}  // namespace tandem::cuda
