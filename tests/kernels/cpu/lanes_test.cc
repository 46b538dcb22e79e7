// The float kernels of every instruction set equal the generic ones bit for bit, and those are
// right to a tolerance.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"

namespace tandem::cpu {
namespace {

std::vector<float> random_floats(size_t n, float scale, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

const Table& generic() { return tables()[0]; }

// Runs check(table) for all supported instruction sets but the generic one, and says which are not.
template <typename Check>
void for_each_isa(const Check& check) {
  for (const Table& table : tables().subspan(1)) {
    if (!table.supported) {
      std::printf("[ SKIPPED  ] %s: this CPU does not have it\n", std::string(table.name).c_str());
      continue;
    }
    SCOPED_TRACE(std::string(table.name));
    check(table);
  }
}

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

const std::vector<int64_t> kLengths = {1, 7, 15, 16, 17, 31, 32, 33, 64, 100, 1408, 2049};

TEST(Lanes, RmsNormEqualsGenericAndDefinition) {
  for (const int64_t n : kLengths) {
    const auto x = random_floats(static_cast<size_t>(n), 3.0F, 1);
    const auto weight = random_floats(static_cast<size_t>(n), 1.0F, 2);
    std::vector<float> truth(x.size());
    generic().rms_norm({x.data(), weight.data(), truth.data(), n, 1e-6F});
    double squares = 0.0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] * factor * weight[i];
      // Rounding of the sum (n / 16 + 4 additions), the factor and two products.
      EXPECT_NEAR(truth[i], expected, std::abs(expected) * 1e-5 + 1e-12);
    }
    for_each_isa([&](const Table& table) {
      std::vector<float> y = x;
      table.rms_norm({y.data(), weight.data(), y.data(), n, 1e-6F});  // in place
      expect_same_bits(y, truth);
    });
  }
}

TEST(Lanes, SiluSigmoidSoftmaxEqualGenericAndDefinition) {
  for (const int64_t n : kLengths) {
    auto gate = random_floats(static_cast<size_t>(n), 20.0F, 3);
    if (n > 15) {
      gate[3] = 200.0F;
      gate[4] = -200.0F;
      gate[5] = 0.0F;
    }
    const auto up = random_floats(static_cast<size_t>(n), 1.0F, 4);
    std::vector<float> silu(gate.size()), sigmoid = gate, softmax = gate;
    generic().silu_mul(gate.data(), up.data(), silu.data(), n);
    generic().sigmoid(sigmoid.data(), n);
    generic().softmax(softmax.data(), n);
    double total = 0.0;
    const double highest = *std::max_element(gate.begin(), gate.end());
    for (const float g : gate) total += std::exp(g - highest);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double s = 1.0 / (1.0 + std::exp(-static_cast<double>(gate[i])));
      EXPECT_NEAR(silu[i], gate[i] * s * up[i], std::abs(gate[i] * s * up[i]) * 2e-6 + 1e-30);
      EXPECT_NEAR(sigmoid[i], s, s * 2e-6 + 1e-37);
      const double p = std::exp(gate[i] - highest) / total;
      EXPECT_NEAR(softmax[i], p, p * 1e-5 + 1e-37);
    }
    for_each_isa([&](const Table& table) {
      std::vector<float> a(gate.size()), b = gate, c = gate;
      table.silu_mul(gate.data(), up.data(), a.data(), n);
      table.sigmoid(b.data(), n);
      table.softmax(c.data(), n);
      expect_same_bits(a, silu);
      expect_same_bits(b, sigmoid);
      expect_same_bits(c, softmax);
    });
  }
}

TEST(Lanes, AddAndMultiplyAddEqualGeneric) {
  for (const int64_t n : kLengths) {
    const auto a = random_floats(static_cast<size_t>(n), 1.0F, 5);
    const auto b = random_floats(static_cast<size_t>(n), 1.0F, 6);
    std::vector<float> sum(a.size()), scaled = b;
    generic().add(a.data(), b.data(), sum.data(), n);
    generic().multiply_add(a.data(), 0.37F, scaled.data(), n);
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(sum[i], a[i] + b[i]);
      EXPECT_EQ(scaled[i], std::fma(0.37F, a[i], b[i]));
    }
    for_each_isa([&](const Table& table) {
      std::vector<float> x(a.size()), y = b;
      table.add(a.data(), b.data(), x.data(), n);
      table.multiply_add(a.data(), 0.37F, y.data(), n);
      expect_same_bits(x, sum);
      expect_same_bits(y, scaled);
    });
  }
}

TEST(Lanes, CacheTypesRoundToNearestEven) {
  std::vector<float> x = random_floats(64, 100.0F, 7);
  x[0] = 1.00390625F;  // halfway between two bf16: to even
  x[1] = 1.01171875F;
  x[2] = 65519.0F;  // largest float that rounds to a finite half
  x[3] = 1e6F;      // overflows a half
  x[4] = 3e-8F;     // half denormals
  x[5] = -0.0F;
  x[6] = std::nanf("");
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF32}) {
    std::vector<std::byte> truth(64 * 4);
    generic().store_kv(x.data(), truth.data(), 64, type);
    for_each_isa([&](const Table& table) {
      std::vector<std::byte> stored(64 * 4);
      table.store_kv(x.data(), stored.data(), 64, type);
      // A NaN's payload is not defined: compare that element as a NaN only, by leaving it out.
      const size_t width = type == DType::kF32 ? 4 : 2;
      for (size_t i = 0; i < 64; ++i) {
        if (i == 6) continue;
        EXPECT_EQ(std::memcmp(&stored[i * width], &truth[i * width], width), 0) << i;
      }
    });
  }
  std::vector<std::byte> bf16(128);
  generic().store_kv(x.data(), bf16.data(), 64, DType::kBF16);
  uint16_t first, second;
  std::memcpy(&first, &bf16[0], 2);
  std::memcpy(&second, &bf16[2], 2);
  EXPECT_EQ(first, 0x3f80);   // 1.0
  EXPECT_EQ(second, 0x3f82);  // 1.015625
}

struct AttentionCase {
  int heads, key_dim, value_dim, page_size, num_keys;
  bool shared;
  DType dtype;
};

class LanesAttention : public ::testing::TestWithParam<AttentionCase> {};

// A cache with the sequence's keys on scattered pages.
struct Cache {
  std::vector<std::byte> memory;
  std::vector<int32_t> pages;
  std::vector<float> keys, values;  // as stored, decoded: [num_keys, dim]
  AttentionParams params;
};

float stored_value(const std::byte* p, DType type) {
  if (type == DType::kF32) {
    float f;
    std::memcpy(&f, p, 4);
    return f;
  }
  if (type == DType::kF16) {
    _Float16 h;
    std::memcpy(&h, p, 2);
    return static_cast<float>(h);
  }
  uint16_t high;
  std::memcpy(&high, p, 2);
  const uint32_t bits = static_cast<uint32_t>(high) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

Cache make_cache(const AttentionCase& c) {
  Cache cache;
  const int64_t width = c.dtype == DType::kF32 ? 4 : 2;
  const int64_t k_row = c.key_dim * width, v_row = c.shared ? 0 : c.value_dim * width;
  const int num_pages = (c.num_keys + c.page_size - 1) / c.page_size;
  const int64_t page = c.page_size * (k_row + v_row);
  cache.memory.resize(static_cast<size_t>(page * (num_pages + 2)));
  for (int i = 0; i < num_pages; ++i) cache.pages.push_back(num_pages + 1 - i);
  for (int key = 0; key < c.num_keys; ++key) {
    std::byte* base = cache.memory.data() + cache.pages[key / c.page_size] * page;
    std::byte* k = base + key % c.page_size * k_row;
    const auto x = random_floats(static_cast<size_t>(c.key_dim), 1.0F, 100 + key);
    generic().store_kv(x.data(), k, c.key_dim, c.dtype);
    std::byte* v = k;
    if (!c.shared) {
      v = base + c.page_size * k_row + key % c.page_size * v_row;
      const auto y = random_floats(static_cast<size_t>(c.value_dim), 1.0F, 9000 + key);
      generic().store_kv(y.data(), v, c.value_dim, c.dtype);
    }
    for (int i = 0; i < c.key_dim; ++i) cache.keys.push_back(stored_value(k + i * width, c.dtype));
    for (int i = 0; i < c.value_dim; ++i) {
      cache.values.push_back(stored_value(v + i * width, c.dtype));
    }
  }
  cache.params = {};
  cache.params.k = cache.memory.data();
  cache.params.v = c.shared ? cache.memory.data() : cache.memory.data() + c.page_size * k_row;
  cache.params.pages = cache.pages.data();
  cache.params.page_stride = page;
  cache.params.k_token_stride = k_row;
  cache.params.v_token_stride = c.shared ? k_row : v_row;
  cache.params.page_size = c.page_size;
  cache.params.num_keys = c.num_keys;
  cache.params.heads = c.heads;
  cache.params.key_dim = c.key_dim;
  cache.params.value_dim = c.value_dim;
  cache.params.scale = 1.0F / std::sqrt(static_cast<float>(c.key_dim));
  cache.params.kv_dtype = c.dtype;
  return cache;
}

std::vector<float> run(const Table& table, const AttentionCase& c, AttentionParams params,
                       const std::vector<float>& q) {
  std::vector<float> out(static_cast<size_t>(c.heads * c.value_dim), -1.0F);
  std::vector<float> scratch(
      static_cast<size_t>(attention_scratch_floats(c.heads, c.key_dim, c.value_dim)));
  params.q = q.data();
  params.out = out.data();
  params.scratch = scratch.data();
  table.attention(params);
  return out;
}

TEST_P(LanesAttention, EqualsGenericAndSoftmaxInDouble) {
  const AttentionCase& c = GetParam();
  const Cache cache = make_cache(c);
  const auto q = random_floats(static_cast<size_t>(c.heads * c.key_dim), 2.0F, 8);
  const std::vector<float> truth = run(generic(), c, cache.params, q);
  for (int h = 0; h < c.heads; ++h) {
    std::vector<double> weights;
    double highest = -1e300, total = 0.0;
    for (int key = 0; key < c.num_keys; ++key) {
      double s = 0.0;
      for (int i = 0; i < c.key_dim; ++i) {
        s += static_cast<double>(q[h * c.key_dim + i]) * cache.keys[key * c.key_dim + i];
      }
      weights.push_back(s * cache.params.scale);
      highest = std::max(highest, weights.back());
    }
    for (double& w : weights) total += w = std::exp(w - highest);
    for (int i = 0; i < c.value_dim; ++i) {
      double expected = 0.0;
      for (int key = 0; key < c.num_keys; ++key) {
        expected += weights[key] / total * cache.values[key * c.value_dim + i];
      }
      // Values are about 1; scores lose some 1e-6 relative, which exp turns into the same share of
      // a weight.
      EXPECT_NEAR(truth[h * c.value_dim + i], expected, 2e-5);
    }
  }
  for_each_isa(
      [&](const Table& table) { expect_same_bits(run(table, c, cache.params, q), truth); });
}

INSTANTIATE_TEST_SUITE_P(Shapes, LanesAttention,
                         ::testing::Values(AttentionCase{1, 16, 16, 32, 1, false, DType::kF32},
                                           AttentionCase{3, 32, 32, 32, 31, false, DType::kF16},
                                           AttentionCase{4, 64, 64, 64, 129, false, DType::kF16},
                                           AttentionCase{2, 128, 128, 64, 200, false, DType::kBF16},
                                           AttentionCase{5, 80, 48, 32, 97, false, DType::kF32},
                                           AttentionCase{8, 576, 512, 256, 300, true, DType::kF16},
                                           AttentionCase{2, 288, 256, 64, 65, true, DType::kF32}));

}  // namespace
}  // namespace tandem::cpu
