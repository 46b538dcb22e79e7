// Frequencies at load, cos and sin once a step, rotation in every layer.
#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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

void fill_rope_table(Context& ctx, const RopeConfig& config, const std::vector<double>& frequencies,
                     const int32_t* positions, int64_t tokens, float* table) {
  const Profile::Scope timed(ctx.profile, Op::kRope);
  const auto half = static_cast<int64_t>(frequencies.size());
  ctx.pool.parallel_for(tokens, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[t] * frequencies[static_cast<size_t>(i)];
        table[(t * half + i) * 2] = static_cast<float>(std::cos(angle)) * config.magnitude;
        table[(t * half + i) * 2 + 1] = static_cast<float>(std::sin(angle)) * config.magnitude;
      }
    }
  });
}

void rope(Context& ctx, const RopeConfig& config, const float* table, HeadsView x, int64_t tokens,
          int64_t heads) {
  const Profile::Scope timed(ctx.profile, Op::kRope);
  const int64_t half = config.dims / 2;
  const bool interleaved = config.style == RopeStyle::kInterleaved;
  const int64_t first_step = interleaved ? 2 : 1;  // from a pair's first element to the next pair's
  const int64_t second = interleaved ? 1 : half;   // from a pair's first element to its second
  ctx.pool.parallel_for(tokens, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row = table + t * half * 2;
      for (int64_t h = 0; h < heads; ++h) {
        float* head = x.data + t * x.token_stride + h * x.head_stride;
        for (int64_t i = 0; i < half; ++i) {
          float& a = head[i * first_step];
          float& b = head[i * first_step + second];
          const float cos = row[2 * i], sin = row[2 * i + 1];
          const float rotated = a * cos - b * sin;
          b = a * sin + b * cos;
          a = rotated;
        }
      }
    }
  });
}

}  // namespace tandem::ops
