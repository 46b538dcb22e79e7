// Plain values that sampling shares with the engine's interface.
#pragma once

#include <cstdint>

namespace tandem::ops {

struct LogitBias {
  int32_t token;
  float bias;  // added to the logit; -infinity bans
};

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural logarithm
};

}  // namespace tandem::ops
