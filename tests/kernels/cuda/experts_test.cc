// The expert layer against float64, with the routing and all sizes that pick its kernels.
#include "kernels/cuda/experts.h"

#include "kernels/cuda/experts_group.h"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/norm.h"
#include "tests/kernels/cuda/weights.h"

namespace tandem::cuda {
namespace {

using testing::DeviceStack;
using testing::DeviceVector;

class Experts : public testing::DeviceTest {};

// K different experts for each token, some of them nobody's; `padding` tokens at the end.
std::vector<int32_t> random_ids(int tokens, int used, int experts, int padding, uint32_t seed) {
  std::mt19937 bits(seed);
  std::vector<int32_t> ids(static_cast<size_t>(tokens) * used, -1);
  for (int t = 0; t < tokens - padding; ++t) {
    for (int rank = 0; rank < used; ++rank) {
      int32_t* own = ids.data() + static_cast<size_t>(t) * used;
      do {
        // Low experts are the popular ones.
        own[rank] = static_cast<int32_t>(std::min(bits() % experts, bits() % experts));
      } while (std::find(own, own + rank, own[rank]) != own + rank);
    }
  }
  return ids;
}

TEST_F(Experts, GroupsKeepTheTokensOrder) {
  for (const int tokens : {1, 5, 8, 170, 200, 4096}) {
    const int used = 6, experts = 61, in_group = tokens < 100 ? 8 : 128;
    const auto ids = random_ids(tokens, used, experts, tokens / 4, 20);
    const DeviceVector<int32_t> device_ids(ids);
    DeviceVector<int32_t> slot_of(ids.size()), slot_token(ids.size()), count(1);
    DeviceVector<TokenGroup> groups(most_groups(tokens, used, experts, in_group));
    group_tokens({.ids = device_ids.data(),
                  .tokens = tokens,
                  .used = used,
                  .experts = experts,
                  .group_tokens = in_group,
                  .slot_of = slot_of.data(),
                  .slot_token = slot_token.data(),
                  .groups = groups.data(),
                  .group_count = count.data()},
                 stream());
    const auto slots = slot_of.host(), slot_tokens = slot_token.host();
    const auto list = groups.host();
    int slot = 0, group = 0;
    for (int expert = 0; expert < experts; ++expert) {
      const int first = slot;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] != expert) continue;
        ASSERT_EQ(slots[i], slot) << tokens;
        ASSERT_EQ(slot_tokens[slot], static_cast<int>(i) / used);
        ++slot;
      }
      for (int at = first; at < slot; at += in_group, ++group) {
        ASSERT_EQ(list[group].expert, expert);
        ASSERT_EQ(list[group].first, at);
        ASSERT_EQ(list[group].count, std::min(in_group, slot - at));
      }
    }
    ASSERT_EQ(count.host()[0], group);
    for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(slots[i] < 0, ids[i] < 0);
  }
}

struct Layer {
  Layer(DType gate_type, DType down_type, int num_experts, int f, int m)
      : experts(num_experts),
        hidden(f),
        width(m),
        gate(gate_type, num_experts, f, m, 30),
        up(gate_type, num_experts, f, m, 31),
        down(down_type, num_experts, m, f, 32) {}
  int experts, hidden, width;
  DeviceStack gate, up, down;
};

// expert(x) in float64; x and the gated values rounded to bf16 as the kernels do.
std::vector<double> run_expert(const Layer& layer, int expert, const float* x) {
  std::vector<float> gated(static_cast<size_t>(layer.hidden));
  for (int i = 0; i < layer.hidden; ++i) {
    const double a = testing::dot(layer.gate.row(expert, i), x, layer.width).value;
    const double b = testing::dot(layer.up.row(expert, i), x, layer.width).value;
    gated[i] = static_cast<float>(a / (1.0 + std::exp(-a)) * b);
  }
  std::vector<double> out(static_cast<size_t>(layer.width));
  for (int i = 0; i < layer.width; ++i) {
    out[i] = testing::dot(layer.down.row(expert, i), gated.data(), layer.hidden).value;
  }
  return out;
}

void check_layer(const Layer& layer, int tokens, int used, cudaStream_t stream,
                 int shared_bytes = 0) {
  const int padding = tokens > 2 ? 1 : 0;
  const auto ids = random_ids(tokens, used, layer.experts, padding, 33);
  const auto x = testing::random_floats(static_cast<size_t>(tokens) * layer.width, 34, 0.1F);
  std::vector<float> weights = testing::random_floats(ids.size(), 35, 0.5F);
  const auto residual = testing::random_floats(x.size(), 36, 0.01F);
  const DeviceVector<__nv_bfloat16> device_x(testing::for_products(x));
  const DeviceVector<int32_t> device_ids(ids);
  const DeviceVector<float> device_weights(weights);
  DeviceVector<float> out(x.size());
  DeviceVector<std::byte> workspace(
      experts_workspace_bytes(tokens, used, layer.experts, layer.hidden, layer.width));
  const auto run = [&] {
    out.assign(residual);
    const ExpertSums sums = run_experts({.gate = layer.gate.data(),
                                         .up = layer.up.data(),
                                         .down = layer.down.data(),
                                         .gate_type = layer.gate.type(),
                                         .down_type = layer.down.type(),
                                         .experts = layer.experts,
                                         .hidden = layer.hidden,
                                         .width = layer.width,
                                         .x = {device_x.data(), layer.width},
                                         .ids = device_ids.data(),
                                         .weights = device_weights.data(),
                                         .tokens = tokens,
                                         .used = used,
                                         .residual = out.data(),
                                         .workspace = workspace.data(),
                                         .shared_bytes = shared_bytes},
                                        stream);
    combine_experts(sums, stream);
    return out.host();
  };
  const auto values = run();
  ASSERT_EQ(values, run());
  testing::RelativeError error;
  const int step = tokens > 64 ? 29 : 1;  // the check is slower than the kernels
  for (int t = 0; t < tokens; t += t + 1 == tokens ? 1 : std::min(step, tokens - 1 - t)) {
    std::vector<double> expected(static_cast<size_t>(layer.width), 0.0);
    for (int rank = 0; rank < used; ++rank) {
      const size_t at = static_cast<size_t>(t) * used + rank;
      if (ids[at] < 0) continue;
      const auto one = run_expert(layer, ids[at], x.data() + size_t(t) * layer.width);
      for (int i = 0; i < layer.width; ++i) expected[i] += weights[at] * one[i];
    }
    for (int i = 0; i < layer.width; ++i) {
      const size_t at = static_cast<size_t>(t) * layer.width + i;
      if (t >= tokens - padding) {
        ASSERT_EQ(values[at], residual[at]) << "padding token " << t;
      } else {
        error.add(values[at] - residual[at], expected[i]);
      }
    }
  }
  // Three products in a row, two of them multiplied: some 3e-3 where nothing cancels. Random blocks
  // of the types with minima share a large mean, most of which cancels in the end: 1.3e-2 was seen.
  EXPECT_LT(error.value(), 2e-2) << testing::name_of(layer.gate.type()) << ", " << tokens
                                 << " tokens";
}

// The norm that follows a layer of experts sums them on its way, to the same bits.
TEST_F(Experts, ANormSumsThemToo) {
  const int tokens = 7, used = 3, width = 512, slots = tokens * used;
  const DeviceVector<float> results(testing::random_floats(size_t{21} * width, 50)),
      weights(testing::random_floats(slots, 51)), norm(testing::random_floats(width, 52));
  std::vector<int32_t> order(slots);
  for (int i = 0; i < slots; ++i) order[i] = i % 5 == 4 ? -1 : (i * 8) % slots;
  const DeviceVector<int32_t> slot_of(order);
  const auto start = testing::random_floats(size_t{7} * width, 53);
  std::vector<float> residuals[2], outputs[2];
  for (const int i : {0, 1}) {
    DeviceVector<float> residual(start), y(start.size());
    const ExpertSums sums = {.results = results.data(),
                             .slot_of = slot_of.data(),
                             .weights = weights.data(),
                             .tokens = tokens,
                             .used = used,
                             .width = width,
                             .residual = residual.data()};
    if (i == 0) combine_experts(sums, stream());
    rms_norm({.x = {residual.data(), width},
              .addend = {nullptr, 0},
              .weight = norm.data(),
              .y = {y.data(), width},
              .n = width,
              .rows = tokens,
              .epsilon = 1e-6F,
              .rounded = {},
              .experts = i == 0 ? ExpertSums{} : sums},
             stream());
    residuals[i] = residual.host();
    outputs[i] = y.host();
  }
  EXPECT_EQ(residuals[0], residuals[1]);
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_NE(residuals[0], start);
}

TEST_F(Experts, AnyNumberOfTokens) {
  const Layer layer(DType::kQ4_K, DType::kQ5_0, 12, 96, 512);
  for (const int tokens : {1, 2, 5, 8, 17, 33, 150, 500}) check_layer(layer, tokens, 4, stream());
}

TEST_F(Experts, EveryTypeWithAnySharedMemory) {
  for (const DType type : testing::kPanelTypes) {
    const Layer layer(type, type, 5, 256, 256);
    for (const int tokens : {3, 70}) {
      for (const int bytes : {0, kSmallSharedBytes}) {
        check_layer(layer, tokens, 2, stream(), bytes);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cuda
