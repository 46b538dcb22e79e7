// What a model is, in 128 bits: what must not be confused with what another model computed is named
// by it.
#pragma once

#include "base/hash128.h"
#include "gguf/file.h"

namespace tandem::gguf {

// A hash over the metadata but for the tokenizer's, all tensors' names, types and shapes, and two
// samples of each one's data. Another model, training state or quantisation differs; a copy of the
// file does not. Reads a few MiB. Throws Error when the file cannot
// be read.
Hash128 identity(const File& file);

}  // namespace tandem::gguf
