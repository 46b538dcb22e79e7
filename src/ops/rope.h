// Rotary position embedding (Su et al. 2021) with linear and YaRN scaling (Peng et al. 2023).
#pragma once

#include <cstdint>
#include <vector>

#include "ops/context.h"
#include "ops/linear.h"

namespace tandem::ops {

enum class RopeStyle {
  kInterleaved,  // pairs (2i, 2i + 1): llama, deepseek ("NORM")
  kHalves,       // pairs (i, i + dims / 2): qwen ("NEOX")
};

struct RopeConfig {
  int dims = 0;  // rotated dimensions of a head, even
  float base = 10000.0F;
  RopeStyle style = RopeStyle::kInterleaved;
  float scale = 1.0F;      // positions are multiplied by it: 1 / scaling factor
  bool yarn = false;       // blend scaled and unscaled frequencies
  float magnitude = 1.0F;  // cos and sin are multiplied by it
  float beta_fast = 32.0F;
  float beta_slow = 1.0F;
  int original_context = 0;
  const float* factors = nullptr;  // [dims / 2] frequencies are divided by it (Llama 3), or null
};

// Angles per position of one pair of dimensions each. [dims / 2]
std::vector<double> rope_frequencies(const RopeConfig& config);

// cos and sin of the step's positions, as cpu::RopeParams wants them for the style. frequencies:
// [dims / 2]; table: [T, dims] f32
void fill_rope_table(Context& ctx, const RopeConfig& config, const double* frequencies,
                     const int32_t* positions, int64_t tokens, float* table);

// Rotates config.dims columns in place. x: [T, heads, dims]
void rope(Context& ctx, const RopeConfig& config, const float* table, HeadsView x, int64_t tokens,
          int64_t heads);

}  // namespace tandem::ops
