// Routing on the device equals the CPU's, experts and weights bit for bit.
#include "kernels/cuda/routing.h"

#include <limits>

#include "moe/routing.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using testing::DeviceVector;
using testing::random_floats;

class DeviceRouting : public testing::DeviceTest {
 protected:
  // Routes on both and compares.
  void expect_equal(const moe::RoutingConfig& config, const std::vector<float>& logits,
                    const std::vector<float>& bias, const char* what) {
    const auto tokens = static_cast<int>(logits.size()) / config.experts;
    const auto chosen = static_cast<size_t>(tokens * config.used);
    moe::RoutingConfig on_cpu = config;
    on_cpu.selection_bias = bias.empty() ? nullptr : bias.data();
    std::vector<float> scratch = logits, weights(chosen);
    std::vector<int32_t> ids(chosen);
    moe::route(ctx_, on_cpu, scratch.data(), tokens, ids.data(), weights.data());

    DeviceVector<float> device_logits(logits), device_bias(bias), device_weights(chosen);
    DeviceVector<int32_t> device_ids(chosen);
    route({.logits = device_logits.data(),
           .selection_bias = bias.empty() ? nullptr : device_bias.data(),
           .ids = device_ids.data(),
           .weights = device_weights.data(),
           .experts = config.experts,
           .used = config.used,
           .gating = static_cast<Gating>(config.gating),
           .normalise = config.normalise,
           .scale = config.scale,
           .groups = config.groups,
           .groups_used = config.groups_used,
           .tokens = tokens},
          stream());
    EXPECT_EQ(device_ids.host(), ids) << what;
    EXPECT_EQ(device_weights.host(), weights) << what;
  }

 private:
  platform::ThreadPool pool_{{.threads = 1, .pin = false}};
  ops::Workspace workspace_{1 << 16};
  ops::Context ctx_{pool_, cpu::select(), workspace_};
};

struct Case {
  const char* name;
  moe::RoutingConfig config;
  bool bias;
};
using moe::Gating;
const Case kCases[] = {
    {"V2-Lite", {.experts = 64, .used = 6, .gating = Gating::kSoftmax}, false},
    {"V2",
     {.experts = 160,
      .used = 6,
      .gating = Gating::kSoftmax,
      .scale = 16,
      .groups = 8,
      .groups_used = 3},
     false},
    {"V3",
     {.experts = 256,
      .used = 8,
      .gating = Gating::kSigmoid,
      .normalise = true,
      .scale = 2.5F,
      .groups = 8,
      .groups_used = 4},
     true},
    {"K2",
     {.experts = 384, .used = 8, .gating = Gating::kSigmoid, .normalise = true, .scale = 2.827F},
     true},
    {"Qwen3", {.experts = 128, .used = 8, .gating = Gating::kSoftmax, .normalise = true}, false},
    {"Qwen2-57B", {.experts = 60, .used = 4, .gating = Gating::kSoftmax}, false},
    {"Mixtral", {.experts = 8, .used = 2, .gating = Gating::kSoftmax, .normalise = true}, false},
    {"softmax of chosen", {.experts = 33, .used = 5, .gating = Gating::kSoftmaxOfChosen}, true},
    {"all of few", {.experts = 3, .used = 3, .gating = Gating::kSoftmaxOfChosen}, false},
    {"many", {.experts = 1024, .used = 40, .gating = Gating::kSoftmax, .normalise = true}, true},
};

TEST_F(DeviceRouting, EqualsTheCpuForEachModelKind) {
  for (const Case& c : kCases) {
    const auto logits = random_floats(static_cast<size_t>(67 * c.config.experts), 1, 2.0F);
    const auto bias = random_floats(c.bias ? static_cast<size_t>(c.config.experts) : 0, 2, 0.1F);
    expect_equal(c.config, logits, bias, c.name);
  }
}

TEST_F(DeviceRouting, PaddingGoesToNoExpert) {
  const int experts = 16, used = 3, tokens = 5;
  const auto logits = random_floats(static_cast<size_t>(tokens * experts), 3);
  const std::vector<int32_t> slots = {4, -1, 0, 9, -1};
  DeviceVector<float> device_logits(logits), weights(static_cast<size_t>(tokens * used));
  DeviceVector<int32_t> ids(weights.host().size()), device_slots(slots);
  route({.logits = device_logits.data(),
         .selection_bias = nullptr,
         .ids = ids.data(),
         .weights = weights.data(),
         .experts = experts,
         .used = used,
         .gating = cuda::Gating::kSoftmax,
         .normalise = true,
         .scale = 1.0F,
         .groups = 1,
         .groups_used = 1,
         .tokens = tokens,
         .slots = device_slots.data()},
        stream());
  const auto chosen = ids.host();
  const auto shares = weights.host();
  for (size_t i = 0; i < chosen.size(); ++i) {
    const bool padding = slots[i / used] < 0;
    EXPECT_EQ(chosen[i] == -1, padding) << i;
    EXPECT_EQ(shares[i] == 0.0F, padding) << i;
  }
}

// Ties, both zeros, infinities and NaNs go by the CPU's rules.
TEST_F(DeviceRouting, EqualsTheCpuForSpecialValues) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const float special[] = {0.0F, -0.0F, 1.0F, 1.0F, -inf, nan, 0.5F, -200.0F};
  for (const Case& c : kCases) {
    std::vector<float> logits;
    for (int i = 0; i < 7 * c.config.experts; ++i) {
      logits.push_back(special[(i * 5 + i / c.config.experts) % 8]);
    }
    // Weights of NaN compare unequal to themselves, so experts that have one are left out where
    // they can be chosen.
    if (c.config.used > c.config.experts / 8) continue;
    expect_equal(c.config, logits, {}, c.name);
  }
}

}  // namespace
}  // namespace tandem::cuda
