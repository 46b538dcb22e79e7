// Products equal the scalar definition bit for bit, however they are cut: thread count, tokens, a
// loop's other products, parts.
#include "ops/linear.h"

#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/quant/random_stack.h"

namespace tandem::ops {
namespace {

using testing::activations_for;
using testing::random_floats;
using testing::RandomStack;

constexpr size_t kScratch = size_t{8} << 20;

// [T, n]
std::vector<float> plain(const RandomStack& w, int64_t matrix, const std::vector<float>& x) {
  const auto tokens = static_cast<int64_t>(x.size()) / w.k();
  std::vector<float> y;
  for (int64_t t = 0; t < tokens; ++t) {
    const auto row = activations_for(w.type(), x.data() + t * w.k(), w.k());
    for (int64_t i = 0; i < w.n(); ++i) y.push_back(w.dot(matrix, i, row.data()));
  }
  return y;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Way {
  int threads, parts;
};
constexpr Way kWays[] = {{1, 1}, {2, 1}, {3, 1}, {3, 2}, {2, 3}};

TEST(Linear, SeveralMatricesWithBiasAndResidual) {
  constexpr int64_t kColumns = 256;
  RandomStack a(DType::kQ4_K, 1, 200, kColumns, 1);
  RandomStack b(DType::kQ8_0, 1, 33, kColumns, 2);
  RandomStack c(DType::kF32, 1, 5, kColumns, 3);
  auto bias = random_floats(33, 1.0F, 4);
  const Tensor bias_tensor = {.data = bias.data(), .shape = shape(33)};
  const cpu::Table& generic = cpu::tables()[0];
  for (const int64_t tokens : {1, 7, 8, 9, 50}) {
    const auto x = random_floats(tokens * kColumns, 1.0F, 5);
    const auto before = random_floats(tokens * 200, 1.0F, 6);
    const auto expected_a = plain(a, 0, x), expected_c = plain(c, 0, x);
    auto expected_b = plain(b, 0, x);
    for (int64_t t = 0; t < tokens; ++t) {
      float* row = expected_b.data() + t * 33;
      generic.add(row, bias.data(), row, 33);
    }
    std::vector<float> expected_sum(before.size());
    generic.add(before.data(), expected_a.data(), expected_sum.data(),
                static_cast<int64_t>(before.size()));
    for (const Way& way : kWays) {
      platform::ThreadPool pool({.threads = way.threads, .pin = false});
      Workspace workspace(linear_workspace_bytes(tokens, kColumns, way.threads));
      Context ctx{pool, cpu::select(), workspace};
      std::vector<float> y_a(expected_a.size()), y_b(expected_b.size()), y_c(expected_c.size());
      std::vector<float> sum = before;
      linear(ctx, x.data(), tokens,
             {{.w = a.in_parts(way.parts), .y = y_a.data(), .residual = sum.data()},
              {.w = b.in_parts(1), .bias = bias_tensor, .y = y_b.data()},
              {.w = c.in_parts(way.parts), .y = y_c.data()}});
      EXPECT_TRUE(same(y_a, expected_a)) << tokens << " tokens, " << way.threads << " threads";
      EXPECT_TRUE(same(y_b, expected_b));
      EXPECT_TRUE(same(y_c, expected_c));
      EXPECT_TRUE(same(sum, expected_sum));
    }
  }
}

// Rows of 4096 floats: a block has 32 tokens.
TEST(Linear, BlocksOfTokens) {
  constexpr int64_t kColumns = 4096, kRows = 72;
  RandomStack w(DType::kBF16, 1, kRows, kColumns, 1);
  for (const int64_t tokens : {32, 33, 70}) {
    const auto x = random_floats(tokens * kColumns, 1.0F, 2);
    const auto expected = plain(w, 0, x);
    for (const Way& way : kWays) {
      platform::ThreadPool pool({.threads = way.threads, .pin = false});
      Workspace workspace(linear_workspace_bytes(tokens, kColumns, way.threads));
      Context ctx{pool, cpu::select(), workspace};
      std::vector<float> y(expected.size());
      linear(ctx, x.data(), tokens, {{.w = w.in_parts(way.parts), .y = y.data()}});
      EXPECT_TRUE(same(y, expected)) << tokens << " tokens, " << way.threads << " threads";
    }
  }
}

// Behind the identity, whose products leave every value as it is.
TEST(Linear, FeedForwardIsSiluOfOneTimesTheOther) {
  constexpr int64_t kColumns = 512, kRows = 136;
  const cpu::Table& generic = cpu::tables()[0];
  std::vector<float> identity(kRows * kRows);
  for (int64_t i = 0; i < kRows; ++i) identity[static_cast<size_t>(i * kRows + i)] = 1.0F;
  const Tensor down = {.data = identity.data(), .shape = shape(kRows, kRows)};
  for (const auto& [gate_type, up_type] :
       {std::pair{DType::kQ4_K, DType::kQ4_K}, std::pair{DType::kQ6_K, DType::kQ4_0}}) {
    RandomStack gate(gate_type, 1, kRows, kColumns, 1), up(up_type, 1, kRows, kColumns, 2);
    for (const int64_t tokens : {1, 8, 40}) {
      const auto x = random_floats(tokens * kColumns, 0.1F, 3);
      auto expected = plain(gate, 0, x);
      const auto factor = plain(up, 0, x);
      generic.silu_mul(expected.data(), factor.data(), expected.data(), tokens * kRows);
      for (const Way& way : kWays) {
        platform::ThreadPool pool({.threads = way.threads, .pin = false});
        const Tensor gate_parts = gate.in_parts(way.parts);
        Workspace workspace(feed_forward_workspace_bytes(tokens, gate_parts, way.threads));
        Context ctx{pool, cpu::select(), workspace};
        std::vector<float> y(expected.size());
        feed_forward(ctx, x.data(), tokens, gate_parts, up.in_parts(way.parts),
                     {.w = down, .y = y.data()});
        EXPECT_TRUE(same(y, expected)) << tokens << " tokens, " << way.threads << " threads";
      }
    }
  }
}

TEST(Linear, EachHeadHasItsMatrix) {
  constexpr int64_t kHeads = 5, kColumns = 64, kRows = 40, kWidth = 100;  // of x's heads
  RandomStack w(DType::kQ8_0, kHeads, kRows, kColumns, 1);
  for (const int64_t tokens : {1, 3, 20}) {
    const auto x = random_floats(tokens * kHeads * kWidth, 1.0F, 2);
    std::vector<float> expected(static_cast<size_t>(tokens * kHeads * kRows));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const auto row = activations_for(w.type(), x.data() + (t * kHeads + h) * kWidth, kColumns);
        for (int64_t i = 0; i < kRows; ++i) {
          expected[static_cast<size_t>((t * kHeads + h) * kRows + i)] = w.dot(h, i, row.data());
        }
      }
    }
    for (const Way& way : kWays) {
      platform::ThreadPool pool({.threads = way.threads, .pin = false});
      const Tensor stack = w.in_parts(way.parts);
      Workspace workspace(linear_per_head_workspace_bytes(tokens, stack));
      Context ctx{pool, cpu::select(), workspace};
      std::vector<float> y(expected.size());
      linear_per_head(ctx, {const_cast<float*>(x.data()), kHeads * kWidth, kWidth}, tokens, stack,
                      {y.data(), kHeads * kRows, kRows});
      EXPECT_TRUE(same(y, expected)) << tokens << " tokens, " << way.threads << " threads";
    }
  }
}

// The kernels' order of elements shows in the bits, so equality above says little about which tiles
// exist; here they are counted.
TEST(Products, TilesCoverEveryElementOnce) {
  for (const int64_t tokens : {1, 8, 9, 100}) {
    for (const Way& way : kWays) {
      RandomStack small(DType::kF32, 3, 50, 64, 1), large(DType::kF32, 2, 90, 2048, 2);
      const Tensor small_w = small.in_parts(way.parts), large_w = large.in_parts(1);
      const auto x = random_floats(tokens * 3 * 2048, 1.0F, 3);
      std::vector<float> y(static_cast<size_t>(tokens * (3 * 50 + 90)));
      const auto* rows = reinterpret_cast<const std::byte*>(x.data());
      const Product products[] = {{.w = &small_w,
                                   .matrices = 3,
                                   .x = {rows, 64 * 4},
                                   .y = y.data(),
                                   .y_stride = 50,
                                   .y_step = tokens * 50,
                                   .tokens = tokens},
                                  {.w = &large_w,
                                   .matrix = 1,
                                   .x = {rows, 2048 * 4},
                                   .y = y.data() + tokens * 150,
                                   .y_stride = 90,
                                   .tokens = tokens}};
      platform::ThreadPool pool({.threads = way.threads, .pin = false});
      Workspace workspace(kScratch);
      Context ctx{pool, cpu::select(), workspace};
      std::vector<std::atomic<int>> seen(y.size());
      run_products(ctx, products, [&](int64_t product, const Tile& tile) {
        const int64_t n = product == 0 ? 50 : 90;
        const int64_t base = product == 0 ? tile.matrix * tokens * 50 : tokens * 150;
        EXPECT_EQ(tile.token_begin % token_block(products[product]), 0);
        for (int64_t t = tile.token_begin; t < tile.token_end; ++t) {
          for (int64_t row = tile.row_begin; row < tile.row_end; ++row) {
            ++seen[static_cast<size_t>(base + t * n + row)];
          }
        }
      });
      for (const auto& count : seen) ASSERT_EQ(count, 1);
    }
  }
}

}  // namespace
}  // namespace tandem::ops
