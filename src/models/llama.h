// Decoders with grouped-query attention: llama (dense and Mixtral), qwen2, qwen2moe, qwen3,
// qwen3moe.
#pragma once

#include <memory>

#include "models/model.h"

namespace tandem::models {

std::unique_ptr<Decoder> create_llama(const gguf::File& file, ModelConfig config,
                                      const Placement& placement);

}  // namespace tandem::models
