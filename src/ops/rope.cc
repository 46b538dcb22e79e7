// Frequencies at load, cos and sin once a step, rotation in every layer.
#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/gpu.h"

namespace tandem::ops {
namespace {

// The pair of dimensions whose wavelength fits `rotations` times into the original context (YaRN,
// section 3.2).
double correction_dim(const RopeConfig& config, double rotations) {
  return config.dims * std::log(config.original_context / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(static_cast<double>(config.base)));
}

}  // namespace

std::vector<double> rope_frequencies(const RopeConfig& config) {
  std::vector<double> frequencies(static_cast<size_t>(config.dims / 2));
  double low = 0.0, high = 0.0;
  if (config.yarn) {
    low = std::max(0.0, std::floor(correction_dim(config, config.beta_fast)));
    high = std::min(config.dims - 1.0, std::ceil(correction_dim(config, config.beta_slow)));
  }
  for (int i = 0; i < config.dims / 2; ++i) {
    double unscaled = std::pow(static_cast<double>(config.base), -2.0 * i / config.dims);
    if (config.factors != nullptr) unscaled /= config.factors[i];
    const double scaled = unscaled * config.scale;
    if (config.yarn) {
      const double ramp = std::clamp((i - low) / std::max(0.001, high - low), 0.0, 1.0);
      frequencies[static_cast<size_t>(i)] = scaled * ramp + unscaled * (1.0 - ramp);
    } else {
      frequencies[static_cast<size_t>(i)] = scaled;
    }
  }
  return frequencies;
}

void fill_rope_table(Context& ctx, const RopeConfig& config, const double* frequencies,
                     const int32_t* positions, int64_t tokens, float* table) {
  const Profile::Scope timed(ctx.profile, Op::kRope);
  if (ctx.gpu != nullptr) {
    return ctx.gpu->fill_rope_table(config, frequencies, positions, tokens, table);
  }
  const int64_t half = config.dims / 2;
  const bool interleaved = config.style == RopeStyle::kInterleaved;
  const int64_t step = interleaved ? 2 : 1;       // from a pair's cos to the next pair's
  const int64_t to_sin = interleaved ? 1 : half;  // from a pair's cos to its sin
  // Sine and cosine of an angle take some 30 ns.
  const int64_t tokens_per_piece = std::max<int64_t>(1, 128 / std::max<int64_t>(half, 1));
  ctx.pool.parallel_for(tokens, tokens_per_piece, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[t] * frequencies[i];
        float* cos = table + t * half * 2 + i * step;
        cos[0] = static_cast<float>(std::cos(angle)) * config.magnitude;
        cos[to_sin] = static_cast<float>(std::sin(angle)) * config.magnitude;
      }
    }
  });
}

void rope(Context& ctx, const RopeConfig& config, const float* table, HeadsView x, int64_t tokens,
          int64_t heads) {
  const Profile::Scope timed(ctx.profile, Op::kRope);
  TANDEM_CHECK(ctx.gpu == nullptr, "on a GPU it is a part of {}", "ops/prepared_attention.h");
  // 8 K rotated elements are some 2 us of work.
  const int64_t grain = std::max<int64_t>(1, 8192 / (heads * config.dims));
  ctx.pool.parallel_for(tokens, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      ctx.cpu.rope({.x = x.data + t * x.token_stride,
                    .head_stride = x.head_stride,
                    .heads = static_cast<int>(heads),
                    .dims = config.dims,
                    .interleaved = config.style == RopeStyle::kInterleaved,
                    .table = table + t * config.dims});
    }
  });
}

}  // namespace tandem::ops
