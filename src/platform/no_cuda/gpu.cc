// A build without CUDA sees no GPU.
#include "platform/gpu.h"

namespace tandem::platform {

Gpus find_gpus() {
  Gpus gpus;
  gpus.missing = "no GPU: this program was built without CUDA";
  return gpus;
}

}  // namespace tandem::platform
