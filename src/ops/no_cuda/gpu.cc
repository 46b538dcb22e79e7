// Stands in for ops/cuda in builds without CUDA.
#include "ops/gpu.h"

#include "base/error.h"

namespace tandem::ops {

int64_t Gpu::hand_off_bytes(const GpuSizes&) { return 0; }
int64_t Gpu::page_bytes(const KvLayer&) { TANDEM_CHECK(false, "a GPU's cache without CUDA"); }

size_t Gpu::experts_workspace_bytes(const Tensor&, int64_t, int) {
  TANDEM_CHECK(false, "experts on a GPU without CUDA");
}

int64_t HotSlots::slot_bytes(const HotLayerSource&) {
  TANDEM_CHECK(false, "hot experts without CUDA");
}

std::unique_ptr<Gpu> open_gpu(int64_t) { throw Error("no GPU: this build has no GPU parts"); }

}  // namespace tandem::ops
