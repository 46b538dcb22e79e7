// Products of every weight type against float64 with the weights' true values, at odd sizes; and
// rows decoded to exactly the values of the scalar definition.
#include "kernels/cuda/linear.h"

#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/quant_rows.h"
#include "tests/kernels/cuda/weights.h"

namespace tandem::cuda {
namespace {

using testing::DeviceStack;
using testing::DeviceVector;

class Linear : public testing::DeviceTest {};

// Columns whose last stage is cut short where the type allows it.
int odd_columns(DType type) { return quant::traits(type).block_elements == 32 ? 13 * 32 : 3 * 256; }

struct Case {
  int tokens, n, k;
};

// Activations for products; [T, k].
struct Inputs {
  Inputs(int tokens, int k, uint32_t seed)
      : floats(testing::random_floats(static_cast<size_t>(tokens) * k, seed)),
        values(testing::for_products(floats)),
        device(values),
        device_floats(floats) {}
  std::vector<float> floats;
  std::vector<__nv_bfloat16> values;
  DeviceVector<__nv_bfloat16> device;
  DeviceVector<float> device_floats;
};

TEST_F(Linear, EveryPanelTypeAtOddSizes) {
  for (const DType type : testing::kPanelTypes) {
    for (const int tokens : {1, 7, 8, 9, 16, 31, 33, 64, 65, 130}) {
      const int n = 77, k = odd_columns(type);
      const DeviceStack w(type, 1, n, k, 1 + tokens);
      const Inputs x(tokens, k, 2);
      const auto bias = testing::random_floats(n, 3);
      const DeviceVector<float> device_bias(bias);
      const int stride = 80;
      DeviceVector<float> y(static_cast<size_t>(tokens) * stride);
      const auto run = [&](bool add) {
        linear({.matrices = {{w.data(), type, n, device_bias.data(), y.data(), stride, add}},
                .count = 1,
                .x = {x.device.data(), k},
                .x_f32 = nullptr,
                .x_f32_stride = 0,
                .k = k,
                .tokens = tokens},
               stream());
        return y.host();
      };
      const auto once = run(false);
      ASSERT_EQ(once, run(false)) << testing::name_of(type);
      const auto twice = run(true);
      testing::RelativeError relative;
      for (int t = 0; t < tokens; ++t) {
        for (int i = 0; i < n; ++i) {
          const auto expected = testing::dot(w.row(0, i), x.floats.data() + t * k, k);
          const float value = once[static_cast<size_t>(t * stride + i)];
          const double bound = tokens <= 64 ? testing::kFewError : testing::kManyError;
          ASSERT_NEAR(value - bias[static_cast<size_t>(i)], expected.value,
                      bound * expected.size + 1e-6)
              << testing::name_of(type) << ", " << tokens << " tokens: [" << t << ", " << i << "]";
          ASSERT_EQ(twice[static_cast<size_t>(t * stride + i)], value + value);
          relative.add(value - bias[static_cast<size_t>(i)], expected.value);
        }
        for (int i = n; i < stride; ++i) {
          ASSERT_EQ(once[static_cast<size_t>(t * stride + i)], 0.0F);
        }
      }
      EXPECT_LT(relative.value(), tokens <= 64 ? testing::kFewRelative : testing::kManyRelative)
          << testing::name_of(type) << ", " << tokens << " tokens";
    }
  }
}

// Long rows: every slice of the columns has several stages, the ring goes round.
TEST_F(Linear, LongRowsOfManyTiles) {
  for (const DType type : {DType::kQ4_K, DType::kQ6_K, DType::kQ8_0}) {
    const int n = 5000, k = 5120, tokens = 5;
    const DeviceStack w(type, 1, n, k, 4);
    const Inputs x(tokens, k, 5);
    DeviceVector<float> y(static_cast<size_t>(tokens) * n);
    linear({.matrices = {{w.data(), type, n, nullptr, y.data(), n, false}},
            .count = 1,
            .x = {x.device.data(), k},
            .x_f32 = nullptr,
            .x_f32_stride = 0,
            .k = k,
            .tokens = tokens},
           stream());
    const auto values = y.host();
    for (int t = 0; t < tokens; ++t) {
      for (int i = t; i < n; i += 37) {
        const auto expected = testing::dot(w.row(0, i), x.floats.data() + t * k, k);
        ASSERT_NEAR(values[static_cast<size_t>(t) * n + i], expected.value,
                    testing::kFewError * expected.size);
      }
    }
  }
}

TEST_F(Linear, EachHeadHasItsMatrixAndItsColumns) {
  const int heads = 5, n = 77, gap = 32;
  for (const DType type : {DType::kQ8_0, DType::kQ4_K, DType::kQ6_K}) {
    const int k = odd_columns(type);
    const DeviceStack w(type, heads, n, k, 31);
    for (const int tokens : {1, 8, 9, 33, 70, 130}) {
      const int x_head = k + gap, y_head = n + 3;
      const Inputs x(tokens * heads, x_head, 32);
      DeviceVector<float> y(static_cast<size_t>(tokens) * heads * y_head);
      linear_heads({.w = w.data(),
                    .type = type,
                    .n = n,
                    .k = k,
                    .heads = heads,
                    .x = {x.device.data(), int64_t{heads} * x_head},
                    .x_head_stride = x_head,
                    .y = y.data(),
                    .y_stride = int64_t{heads} * y_head,
                    .y_head_stride = y_head,
                    .tokens = tokens},
                   stream());
      const auto values = y.host();
      for (int row = 0; row < tokens * heads; ++row) {  // (token, head)
        for (int i = 0; i < n; ++i) {
          const auto expected =
              testing::dot(w.row(row % heads, i), x.floats.data() + int64_t{row} * x_head, k);
          const double bound = tokens <= 64 ? testing::kFewError : testing::kManyError;
          ASSERT_NEAR(values[static_cast<size_t>(row * y_head + i)], expected.value,
                      bound * expected.size + 1e-6)
              << testing::name_of(type) << ", " << tokens << " tokens: [" << row << ", " << i
              << "]";
        }
        for (int i = n; i < y_head; ++i) {
          ASSERT_EQ(values[static_cast<size_t>(row * y_head + i)], 0.0F);
        }
      }
    }
  }
}

// The kernels for devices with less shared memory compute what the others do, but for the order of
// sums.
TEST_F(Linear, LittleSharedMemoryIsEnough) {
  for (const DType type : testing::kPanelTypes) {
    const int n = 96, k = odd_columns(type), heads = 2;
    const DeviceStack w(type, heads, n, k, 40), up(type, 1, n, k, 41);
    for (const int tokens : {1, 9, 30, 66, 150}) {
      const Inputs x(tokens, heads * k, 42);
      const size_t count = static_cast<size_t>(tokens * heads * n);
      std::vector<float> plain[2], per_head[2];
      std::vector<__nv_bfloat16> gated[2];
      for (const int i : {0, 1}) {
        const int bytes = i == 0 ? 0 : kSmallSharedBytes;
        DeviceVector<float> y(count), y_heads(count);
        DeviceVector<__nv_bfloat16> y_gated(count);
        linear({.matrices = {{w.data(), type, n, nullptr, y.data(), n, false}},
                .count = 1,
                .x = {x.device.data(), heads * k},
                .x_f32 = nullptr,
                .x_f32_stride = 0,
                .k = k,
                .tokens = tokens,
                .shared_bytes = bytes},
               stream());
        linear_heads({.w = w.data(),
                      .type = type,
                      .n = n,
                      .k = k,
                      .heads = heads,
                      .x = {x.device.data(), heads * k},
                      .x_head_stride = k,
                      .y = y_heads.data(),
                      .y_stride = heads * n,
                      .y_head_stride = n,
                      .tokens = tokens,
                      .shared_bytes = bytes},
                     stream());
        linear_gated({.gate = w.data(),
                      .up = up.data(),
                      .type = type,
                      .n = n,
                      .x = {x.device.data(), heads * k},
                      .k = k,
                      .tokens = tokens,
                      .y = {y_gated.data(), n},
                      .shared_bytes = bytes},
                     stream());
        plain[i] = y.host();
        per_head[i] = y_heads.host();
        gated[i] = y_gated.host();
      }
      float largest = 0.0F, largest_gated = 0.0F;
      for (size_t i = 0; i < count; ++i) {
        largest = std::max(largest, std::fabs(per_head[0][i]));
        largest_gated = std::max(largest_gated, std::fabs(__bfloat162float(gated[0][i])));
      }
      for (size_t i = 0; i < count; ++i) {
        ASSERT_NEAR(plain[1][i], plain[0][i], 2e-5 * largest) << testing::name_of(type) << tokens;
        ASSERT_NEAR(per_head[1][i], per_head[0][i], 2e-5 * largest) << testing::name_of(type);
        ASSERT_NEAR(__bfloat162float(gated[1][i]), __bfloat162float(gated[0][i]),
                    0x1p-8 * largest_gated)
            << testing::name_of(type) << ", " << tokens << " tokens";
      }
    }
  }
}

// Results that further products read are the rounded results.
TEST_F(Linear, WritesItsResultsForFurtherProducts) {
  const DType type = DType::kQ4_K;
  const int n = 96, k = 512, heads = 3;
  const DeviceStack w(type, heads, n, k, 43);
  for (const int tokens : {1, 12, 40, 90}) {
    const Inputs x(tokens, heads * k, 44);
    const size_t count = static_cast<size_t>(tokens * heads * n);
    DeviceVector<float> y(count), y_heads(count);
    DeviceVector<__nv_bfloat16> rounded(count), rounded_heads(count);
    linear({.matrices = {{w.data(), type, n, nullptr, y.data(), n, false, {rounded.data(), n}}},
            .count = 1,
            .x = {x.device.data(), heads * k},
            .x_f32 = nullptr,
            .x_f32_stride = 0,
            .k = k,
            .tokens = tokens},
           stream());
    linear_heads({.w = w.data(),
                  .type = type,
                  .n = n,
                  .k = k,
                  .heads = heads,
                  .x = {x.device.data(), heads * k},
                  .x_head_stride = k,
                  .y = y_heads.data(),
                  .y_stride = heads * n,
                  .y_head_stride = n,
                  .tokens = tokens,
                  .rounded = {rounded_heads.data(), heads * n}},
                 stream());
    const auto bits_of = [](const std::vector<__nv_bfloat16>& v) {
      std::vector<float> floats;
      for (const __nv_bfloat16 half : v) floats.push_back(__bfloat162float(half));
      return floats;
    };
    EXPECT_EQ(bits_of(rounded.host()), bits_of(testing::for_products(y.host()))) << tokens;
    EXPECT_EQ(bits_of(rounded_heads.host()), bits_of(testing::for_products(y_heads.host())));
  }
}

TEST_F(Linear, MatricesOfSeveralTypesShareAnInput) {
  const int k = 512;
  const DType types[] = {DType::kQ4_K, DType::kF32, DType::kQ6_K, DType::kQ4_K};
  const int rows[] = {33, 5, 64, 100};
  for (const int tokens : {3, 40}) {
    const Inputs x(tokens, k, 6);
    LinearParams params = {.matrices = {},
                           .count = 4,
                           .x = {x.device.data(), k},
                           .x_f32 = x.device_floats.data(),
                           .x_f32_stride = k,
                           .k = k,
                           .tokens = tokens};
    std::vector<std::unique_ptr<DeviceStack>> weights;
    std::vector<std::unique_ptr<DeviceVector<float>>> results;
    for (int i = 0; i < 4; ++i) {
      const int stride = (rows[i] + 1) / 2 * 2;
      weights.push_back(std::make_unique<DeviceStack>(types[i], 1, rows[i], k, 7 + i));
      results.push_back(std::make_unique<DeviceVector<float>>(size_t(tokens) * stride));
      params.matrices[i] = {weights[i]->data(), types[i], rows[i], nullptr,
                            results[i]->data(), stride,   false};
    }
    linear(params, stream());
    for (int i = 0; i < 4; ++i) {
      const auto y = results[i]->host();
      for (int t = 0; t < tokens; ++t) {
        for (int row = 0; row < rows[i]; ++row) {
          const auto expected = testing::dot(weights[i]->row(0, row), x.floats.data() + t * k, k);
          const double bound = types[i] == DType::kF32 ? 1e-5 : testing::kManyError;
          ASSERT_NEAR(y[size_t(t) * params.matrices[i].y_stride + row], expected.value,
                      bound * expected.size)
              << i << " [" << t << ", " << row << "]";
        }
      }
    }
  }
}

TEST_F(Linear, FloatWeights) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const Case& c : {Case{1, 64, 2048}, Case{8, 35, 264}, Case{11, 35, 264},
                          Case{33, 64, 2048}, Case{70, 35, 264}}) {
      const DeviceStack w(type, 1, c.n, c.k, 8);
      const auto x = testing::random_floats(static_cast<size_t>(c.tokens) * c.k, 9);
      const DeviceVector<float> device_x(x);
      DeviceVector<float> y(static_cast<size_t>(c.tokens) * 64);
      linear({.matrices = {{w.data(), type, c.n, nullptr, y.data(), 64, false}},
              .count = 1,
              .x = {},
              .x_f32 = device_x.data(),
              .x_f32_stride = c.k,
              .k = c.k,
              .tokens = c.tokens},
             stream());
      const auto values = y.host();
      for (int t = 0; t < c.tokens; ++t) {
        for (int i = 0; i < c.n; ++i) {
          const auto expected = testing::dot(w.row(0, i), x.data() + t * c.k, c.k);
          ASSERT_NEAR(values[static_cast<size_t>(t) * 64 + i], expected.value,
                      1e-5 * expected.size);
        }
      }
    }
  }
}

TEST_F(Linear, GatedEqualsItsParts) {
  for (const DType type : testing::kPanelTypes) {
    for (const int tokens : {1, 8, 13, 31, 50, 129}) {
      const int n = 96, k = odd_columns(type);
      const DeviceStack gate(type, 1, n, k, 10), up(type, 1, n, k, 11);
      const Inputs x(tokens, k, 12);
      DeviceVector<__nv_bfloat16> y(static_cast<size_t>(tokens) * n);
      linear_gated({.gate = gate.data(),
                    .up = up.data(),
                    .type = type,
                    .n = n,
                    .x = {x.device.data(), k},
                    .k = k,
                    .tokens = tokens,
                    .y = {y.data(), n}},
                   stream());
      const auto values = y.host();
      const double bound = tokens <= 32 ? testing::kFewError : testing::kManyError;
      for (int t = 0; t < tokens; ++t) {
        for (int i = 0; i < n; ++i) {
          const auto a = testing::dot(gate.row(0, i), x.floats.data() + t * k, k);
          const auto b = testing::dot(up.row(0, i), x.floats.data() + t * k, k);
          const double silu = a.value / (1.0 + std::exp(-a.value));
          // The slope of silu is below 1.1; the result is rounded once more.
          const double error = 1.1 * bound * a.size * std::fabs(b.value) +
                               (std::fabs(silu) + 1.1 * bound * a.size) * bound * b.size +
                               0x1p-8 * std::fabs(silu * b.value) + 1e-6;
          const auto at = static_cast<size_t>(t * n + product_place(i));
          ASSERT_NEAR(__bfloat162float(values[at]), silu * b.value, error)
              << testing::name_of(type) << ", " << tokens << " tokens: [" << t << ", " << i << "]";
        }
      }
    }
  }
}

TEST_F(Linear, RowsDecodeToTheScalarValues) {
  std::vector<DType> types(std::begin(testing::kPanelTypes), std::end(testing::kPanelTypes));
  types.insert(types.end(),
               {DType::kF32, DType::kF16, DType::kBF16, DType::kIQ2_XXS, DType::kIQ2_XS,
                DType::kIQ2_S, DType::kIQ3_XXS, DType::kIQ3_S, DType::kIQ1_S, DType::kIQ1_M});
  const DeviceVector<quant::Codebooks> codebooks(std::vector{quant::codebooks()});
  for (const DType type : types) {
    const int n = 37, k = odd_columns(type);
    const DeviceStack w(type, 1, n, k, 13);
    const std::vector<int32_t> ids = {36, 0, 17, -1, 17, 37, 5};
    const DeviceVector<int32_t> device_ids(ids);
    DeviceVector<float> out(ids.size() * k);
    DecodeRowsParams params = {.w = w.data(),
                               .type = type,
                               .n = n,
                               .k = k,
                               .ids = device_ids.data(),
                               .rows = static_cast<int>(ids.size()),
                               .out = out.data(),
                               .out_stride = k,
                               .to_bf16 = false,
                               .codebooks = codebooks.data()};
    decode_rows(params, stream());
    const auto rows = out.host();
    for (size_t t = 0; t < ids.size(); ++t) {
      const bool inside = ids[t] >= 0 && ids[t] < n;
      for (int i = 0; i < k; ++i) {
        ASSERT_EQ(rows[t * k + i], inside ? w.row(0, ids[t])[i] : 0.0F)
            << testing::name_of(type) << " row " << ids[t] << " column " << i;
      }
    }
    DeviceVector<__nv_bfloat16> rounded(static_cast<size_t>(n) * k);
    params.ids = nullptr;
    params.rows = n;
    params.out = rounded.data();
    params.to_bf16 = true;
    decode_rows(params, stream());
    const auto all = rounded.host();
    for (int i = 0; i < n * k; ++i) {
      ASSERT_EQ(__bfloat162float(all[i]), __bfloat162float(__float2bfloat16(w.row(0, 0)[i])));
    }
  }
}

TEST_F(Linear, RoundsToNearest) {
  const auto x = testing::random_floats(3 * 96, 14);
  const DeviceVector<float> device(x);
  DeviceVector<__nv_bfloat16> out(x.size());
  round_for_products(
      {.x = device.data(), .x_stride = 96, .out = {out.data(), 96}, .n = 96, .rows = 3}, stream());
  const auto values = out.host(), expected = testing::for_products(x);
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(__bfloat162float(values[i]), __bfloat162float(expected[i]));
  }
}

}  // namespace
}  // namespace tandem::cuda
