// What a model is, read once from GGUF metadata and checked. Letters as in base/shape.h.
#pragma once

#include <string>

#include "gguf/file.h"
#include "moe/routing.h"
#include "ops/rope.h"

namespace tandem::models {

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): one compressed row per token is
// cached.
struct MlaConfig {
  int q_lora = 0;    // rank of the query bottleneck; 0: none
  int kv_lora = 0;   // rank of the cached row
  int nope_dim = 0;  // head dimensions without position
  int rope_dim = 0;  // head dimensions with position, shared by all heads in the key
  int value_dim = 0;
};

struct MoeConfig {
  moe::RoutingConfig routing;  // routing.experts is 0 for dense models
  int expert_hidden = 0;       // F of a routed expert
  int shared_hidden = 0;       // F of the shared experts together; 0: none
  int leading_dense_layers = 0;
};

struct ModelConfig {
  std::string architecture;
  int layers = 0;      // L
  int hidden = 0;      // M
  int vocab = 0;       // V
  int context = 0;     // positions
  int heads = 0;       // H
  int kv_heads = 0;    // Hk
  int key_dim = 0;     // D of queries and keys
  int value_dim = 0;   // D of values
  int ffn_hidden = 0;  // F of dense layers
  float norm_epsilon = 1e-5F;
  float attention_scale = 0.0F;  // of q . k
  ops::RopeConfig rope;
  MlaConfig mla;  // kv_lora is 0 for models without
  MoeConfig moe;
};

// Throws Error naming the key for missing or senseless values, or the architecture when it is
// unknown.
ModelConfig read_config(const gguf::File& file);

}  // namespace tandem::models
