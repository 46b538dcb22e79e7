// What planning needs to know of a model: bytes, and multiply-adds by the kind of their operands.
// From metadata and shapes alone; no weight is read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "gguf/file.h"
#include "models/config.h"

namespace tandem::models {

// Multiply-adds of one token. 32-wide types take two int8 products each (quant/activation.h).
struct Macs {
  double a256 = 0.0, a32 = 0.0, floats = 0.0;
  double total() const { return a256 + a32 + floats; }
};

// Tokens in a KV page where nobody chose: the original's 256 for the small rows of latent
// attention; 64 elsewhere keep the last, half-filled page of a request small.
constexpr int32_t default_page_size(bool latent) { return latent ? 256 : 64; }

struct LayerSizes {
  int64_t fixed_bytes = 0;    // all but routed experts
  int64_t experts_bytes = 0;  // all routed experts; 0: a dense layer
  Macs fixed;
  Macs experts;  // of those that a token uses
  // A type of the layer's experts that the GPU multiplies no experts of; empty: none.
  std::string without_gpu_kernels;
};

struct ModelSizes {
  std::vector<LayerSizes> layers;
  int experts = 0;              // E; 0: a dense model
  int used = 0;                 // K
  int64_t embedding_bytes = 0;  // read by rows, but it has to lie somewhere
  int64_t output_bytes = 0;     // of the output matrix, the same memory as the table's if tied
  bool tied = false;
  Macs output;
  int64_t cache_bytes_per_token = 0;   // all layers
  int64_t attention_macs_per_key = 0;  // of one token and one key in its cache, all layers
  int32_t page_size = 0;
  int64_t gpu_work_bytes = 0;   // scratch, logits and attention's own memory at these limits
  int64_t host_work_bytes = 0;  // about

  int64_t fixed_bytes() const;    // of all layers and both tables
  int64_t experts_bytes() const;  // of all layers
};

// Of a step and of the cache.
struct StepLimits {
  int tokens = 256;
  int sequences = 4;
  DType kv_type = DType::kF16;
  int32_t page_size = 0;  // 0: what suits the model
};

ModelSizes sizes_of(const gguf::File& file, const ModelConfig& config, const StepLimits& limits);

}  // namespace tandem::models
