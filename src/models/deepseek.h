// Decoders with multi-head latent attention: deepseek2 (DeepSeek-V2, V2-Lite, V3, R1, Kimi-K2).
#pragma once

#include <memory>

#include "models/model.h"

namespace tandem::models {

std::unique_ptr<Decoder> create_deepseek(const gguf::File& file, ModelConfig config,
                                         const Placement& placement);

}  // namespace tandem::models
