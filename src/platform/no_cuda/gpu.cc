// A build without CUDA sees no GPU.
#include "platform/gpu.h"

namespace tandem::platform {

Gpus find_gpus() { return {.list = {}, .missing = "no GPU: this program was built without CUDA"}; }

}  // namespace tandem::platform
