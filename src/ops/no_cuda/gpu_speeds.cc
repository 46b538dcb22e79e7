// Stands in for ops/cuda in builds without CUDA.
#include "ops/gpu_speeds.h"

#include "base/error.h"

namespace tandem::ops {

GpuSpeeds measure_gpu_speeds() { throw Error("no GPU: this build has no GPU parts"); }

}  // namespace tandem::ops
