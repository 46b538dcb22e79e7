// What a token costs in products with weights: what a prompt's speed is quoted against. Products of
// attention with the cache are not counted; they grow with the position.
#pragma once

#include "gguf/file.h"
#include "models/config.h"

namespace tandem::models {

struct Work {
  double macs = 0.0;  // multiply-adds
  // Int8 products that they are made of: two each for the 32-wide types, whose activations are two
  // int8 operands (quant/activation.h), one each for the 256-wide ones, none for float weights.
  double int8_products = 0.0;
};

struct TokenWork {
  Work layers;
  Work output;  // the output matrix: only of tokens whose logits are wanted
};

TokenWork work_per_token(const gguf::File& file, const ModelConfig& config);

}  // namespace tandem::models
