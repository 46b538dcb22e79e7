// What the files of known models hold, as far as speed depends on it: metadata of the architecture,
// and names, shapes and types of the tensors in the Q4_K_M mix. Data only; the values are
// gguf/synthetic.cc's.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/tensor.h"

namespace tandem::gguf {

struct SyntheticEntry {
  std::string key;
  std::variant<uint64_t, double, bool, std::string> value;
};

struct SyntheticTensor {
  std::string name;
  DType dtype;
  Shape shape;
  bool ones;  // a norm's weights; all others are random
};

struct SyntheticModel {
  std::vector<SyntheticEntry> metadata;
  std::vector<SyntheticTensor> tensors;
};

// layers: keep only the first so many; 0: all. Throws Error that lists the known names.
SyntheticModel synthetic_model(std::string_view name, int layers);

}  // namespace tandem::gguf
