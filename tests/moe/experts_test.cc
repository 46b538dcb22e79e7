// The grouped experts equal a plain evaluation token by token, at any batch and thread count, bit
// for bit.
#include "moe/experts.h"

#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "ops/linear.h"
#include "quant/reference.h"
#include "quant/types.h"

namespace tandem::moe {
namespace {

constexpr int kExperts = 7, kUsed = 3;
constexpr int64_t kWidth = 256, kHidden = 96;

std::vector<float> random_floats(int64_t n, float scale, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

// Random Q8_0 blocks with a fixed scale.
std::vector<std::byte> random_q8_0(int64_t elements, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> data(static_cast<size_t>(elements / 32 * 34));
  for (std::byte& b : data) b = static_cast<std::byte>(generator() & 0x7f);
  const auto scale = static_cast<_Float16>(0.01F);
  for (size_t block = 0; block < data.size(); block += 34) std::memcpy(&data[block], &scale, 2);
  return data;
}

struct Fixture {
  std::vector<std::byte> gate = random_q8_0(kExperts * kHidden * kWidth, 1);
  std::vector<std::byte> up = random_q8_0(kExperts * kHidden * kWidth, 2);
  std::vector<float> down = random_floats(kExperts * kWidth * kHidden, 0.1F, 3);
  ExpertWeights weights;

  Fixture() {
    weights.gate = {gate.data(), DType::kQ8_0, Device::kCpu, shape(kExperts, kHidden, kWidth)};
    weights.up = {up.data(), DType::kQ8_0, Device::kCpu, shape(kExperts, kHidden, kWidth)};
    weights.down = {down.data(), DType::kF32, Device::kCpu, shape(kExperts, kWidth, kHidden)};
  }
};

// One token through its experts, rank by rank, by the scalar truth and the generic activation.
std::vector<float> plain(const Fixture& f, const float* x, const int32_t* ids,
                         const float* weights) {
  const cpu::Table& generic = cpu::tables()[0];
  std::vector<std::byte> quantised(
      static_cast<size_t>(quant::activation_bytes(quant::ActivationFormat::kA32, kWidth)));
  quant::quantize_activations(quant::ActivationFormat::kA32, x, quantised.data(), kWidth);
  const int64_t row = quant::row_bytes(DType::kQ8_0, kWidth);
  std::vector<float> y(kWidth, 0.0F);
  for (int rank = 0; rank < kUsed; ++rank) {
    std::vector<float> gate(kHidden), up(kHidden), down(kWidth);
    for (int64_t i = 0; i < kHidden; ++i) {
      const int64_t offset = (ids[rank] * kHidden + i) * row;
      gate[i] = quant::dot(DType::kQ8_0, f.gate.data() + offset, quantised.data(), kWidth);
      up[i] = quant::dot(DType::kQ8_0, f.up.data() + offset, quantised.data(), kWidth);
    }
    generic.silu_mul(gate.data(), up.data(), gate.data(), kHidden);
    for (int64_t i = 0; i < kWidth; ++i) {
      down[i] = quant::dot(DType::kF32, f.down.data() + (ids[rank] * kWidth + i) * kHidden,
                           gate.data(), kHidden);
    }
    generic.multiply_add(down.data(), weights[rank], y.data(), kWidth);
  }
  return y;
}

TEST(Experts, EqualPlainEvaluationAtAnyBatchAndThreadCount) {
  const Fixture f;
  for (const int64_t tokens : {1, 2, 5, 40}) {
    const auto x = random_floats(tokens * kWidth, 1.0F, 4);
    const auto weights = random_floats(tokens * kUsed, 1.0F, 5);
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < tokens; ++t) {
      for (int rank = 0; rank < kUsed; ++rank) ids.push_back((t * 2 + rank * 3) % kExperts);
    }
    for (const int threads : {1, 2, 3}) {
      platform::ThreadPool pool({.threads = threads, .pin = false});
      ops::Workspace workspace(experts_workspace_bytes(f.weights, tokens, kUsed));
      ops::Context ctx{pool, cpu::select(), workspace};
      Grouping grouping;
      grouping.reserve(tokens, kExperts, kUsed);
      std::vector<float> y(static_cast<size_t>(tokens * kWidth));
      run_experts(ctx, f.weights, grouping, x.data(), ids.data(), weights.data(), tokens, kUsed,
                  y.data());
      for (int64_t t = 0; t < tokens; ++t) {
        const auto expected =
            plain(f, x.data() + t * kWidth, ids.data() + t * kUsed, weights.data() + t * kUsed);
        EXPECT_EQ(std::memcmp(y.data() + t * kWidth, expected.data(), kWidth * sizeof(float)), 0)
            << tokens << " tokens, token " << t << ", threads " << threads;
      }
    }
  }
}

TEST(Grouping, EverySlotHasItsTokenInOrder) {
  Grouping grouping;
  grouping.reserve(4, 5, 2);
  const std::vector<int32_t> ids = {4, 1, 1, 0, 4, 0, 1, 4};
  grouping.assign(ids.data(), 4, 5, 2);
  EXPECT_EQ(grouping.active, (std::vector<int32_t>{0, 1, 4}));
  EXPECT_EQ(grouping.first_slot, (std::vector<int32_t>{0, 2, 5, 5, 5, 8}));
  EXPECT_EQ(grouping.slot_token, (std::vector<int32_t>{1, 2, 0, 1, 3, 0, 2, 3}));
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(grouping.slot_token[static_cast<size_t>(grouping.slot_of[i])],
              static_cast<int32_t>(i / 2));
  }
}

}  // namespace
}  // namespace tandem::moe
