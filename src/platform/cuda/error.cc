// One line for each failed call of the CUDA runtime.
#include "platform/cuda/error.h"

#include <string_view>

#include "base/error.h"

namespace tandem::platform::cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  // The arguments say nothing to a reader of the message.
  const std::string_view text(call);
  throw Error("{} failed: {} ({})", text.substr(0, text.find('(')), cudaGetErrorString(status),
              cudaGetErrorName(status));
}

}  // namespace tandem::platform::cuda
