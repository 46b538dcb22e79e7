// What the scalar definitions of attention share: exp, the tree of weights, and how spans of keys
// come together.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tandem::cpu::testing {

inline std::vector<float> random_floats(size_t n, float scale, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(n);
  for (float& v : values) v = scale * normal(generator);
  return values;
}

inline float scalar_exp(float x) {
  if (!(x >= -87.33654F)) return 0.0F;
  const float shifted = std::fma(x, 1.44269504F, 12582912.0F);
  const float n = shifted - 12582912.0F;
  float r = std::fma(n, -0.693359375F, x);
  r = std::fma(n, 2.12194440e-4F, r);
  float p = 1.9875691500e-4F;
  for (const float c :
       {1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F}) {
    p = std::fma(p, r, c);
  }
  return std::ldexp(std::fma(p, r * r, r + 1.0F), static_cast<int>(n));
}

struct SpanResult {
  std::vector<float> output;
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0.0F;
};

// Sum of n weights, halves first.
inline float tree_of(const float* weights, int n) {
  std::vector<float> tree(weights, weights + n);
  for (size_t half = tree.size() / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) tree[i] += tree[i + half];
  }
  return tree[0];
}

// n keys in spans: define_span(first, count) is the SpanResult of one.
template <typename Define>
std::vector<float> define_in_spans(int n, const Define& define_span) {
  int span = 64;
  while (n > 16 * span) span *= 2;
  SpanResult total;
  for (int first = 0; first < n; first += span) {
    const SpanResult r = define_span(first, std::min(span, n - first));
    if (first == 0) {
      total = r;
      continue;
    }
    const float maximum = std::max(total.maximum, r.maximum);
    const float a = scalar_exp(total.maximum - maximum), b = scalar_exp(r.maximum - maximum);
    total.maximum = maximum;
    total.sum = std::fma(total.sum, a, r.sum * b);
    for (size_t i = 0; i < total.output.size(); ++i) {
      total.output[i] = std::fma(total.output[i], a, r.output[i] * b);
    }
  }
  for (float& x : total.output) x *= 1.0F / total.sum;
  return total.output;
}

}  // namespace tandem::cpu::testing
