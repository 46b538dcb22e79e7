// Models without a file: the true shapes and types of known models and random weights, which take
// next to no memory. To learn how fast a model would run before it is downloaded; without a
// vocabulary.
#pragma once

#include <memory>
#include <string>

#include "gguf/file.h"

namespace tandem::gguf {

// name: ds-v2-lite, ds-v3, qwen3-30b-a3b, qwen3-235b-a22b or the dense qwen3-14b in the Q4_K_M mix.
// layers: keep only the first so many; 0: all. Throws Error that lists the names when there is no
// such model.
std::unique_ptr<File> open_synthetic(const std::string& name, int layers);

}  // namespace tandem::gguf
