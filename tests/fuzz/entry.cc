// libFuzzer's entry for the target that CMake names.
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tandem::fuzz::TANDEM_FUZZ_TARGET({data, size});
  return 0;
}
