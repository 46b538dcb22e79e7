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

TEST(Lanes, RopeEqualsItsDefinition) {
  constexpr int kHeads = 3;
  for (const int dims : {2, 16, 30, 64, 96, 128}) {
    const auto n = static_cast<size_t>(dims);
    const size_t stride = n + 5;
    const auto x = random_floats(kHeads * stride, 2.0F, 11);
    const auto table = random_floats(n, 1.0F, 12);
    for (const bool interleaved : {true, false}) {
      const size_t half = n / 2, step = interleaved ? 2 : 1, second = interleaved ? 1 : half;
      auto truth = x;
      for (size_t h = 0; h < kHeads; ++h) {
        for (size_t i = 0; i < half; ++i) {
          const float cos = table[i * step], sin = table[i * step + second];
          float& a = truth[h * stride + i * step];
          float& b = truth[h * stride + i * step + second];
          const float rotated = a * cos - b * sin;
          b = a * sin + b * cos;
          a = rotated;
        }
      }
      for (const Table& isa : tables()) {
        if (!isa.supported) continue;
        SCOPED_TRACE(std::string(isa.name) + " " + std::to_string(dims));
        auto y = x;
        isa.rope({.x = y.data(),
                  .head_stride = static_cast<int64_t>(stride),
                  .heads = kHeads,
                  .dims = dims,
                  .interleaved = interleaved,
                  .table = table.data()});
        expect_same_bits(y, truth);
      }
    }
  }
}

TEST(Lanes, ColumnsOfATileTakeTheSameValuesAsRows) {
  const std::vector<float> x = random_floats(48, 1.0F, 9);
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF32}) {
    const size_t width = type == DType::kF32 ? 4 : 2;
    std::vector<std::byte> row(48 * width);
    generic().store_kv(x.data(), row.data(), 48, type);
    for (const Table& table : tables()) {
      if (!table.supported) continue;
      std::vector<std::byte> tile(48 * kAttentionTile * width);
      table.store_kv_column(x.data(), tile.data() + 5 * width, 48, type);
      for (size_t i = 0; i < 48 * kAttentionTile; ++i) {
        const std::vector<std::byte> none(width);
        const std::byte* expected =
            i % kAttentionTile == 5 ? &row[i / kAttentionTile * width] : none.data();
        EXPECT_EQ(std::memcmp(&tile[i * width], expected, width), 0) << table.name << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
