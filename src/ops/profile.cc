// Names of the operators.
#include "ops/profile.h"

namespace tandem::ops {

std::string_view name_of(Op op) {
  constexpr std::array<std::string_view, kNumOps> kNames = {
      "embed", "norm",    "linear",      "rope",   "append_kv", "attention",
      "route", "experts", "elementwise", "output", "sample"};
  return kNames[static_cast<size_t>(op)];
}

}  // namespace tandem::ops
