// Work for a host thread in the middle of a graph: what it reads is what was enqueued before, what
// follows sees what it wrote.
#include "kernels/cuda/hand_off.h"

#include <atomic>
#include <numeric>

#include "kernels/cuda/elementwise.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using platform::cuda::Graph;
using platform::cuda::PinnedMemory;

struct Size {
  int64_t tokens, width;
  int used;
};

// Operands of one hand-off on both sides.
struct Operands {
  explicit Operands(Size size)
      : values(size.tokens * size.width),
        pairs(size.tokens * size.used),
        x(static_cast<size_t>(values)),
        weights(static_cast<size_t>(pairs)),
        ids(static_cast<size_t>(pairs)),
        host_x(bytes(values)),
        host_sum(bytes(values)),
        host_ids(bytes(pairs)),
        host_weights(bytes(pairs)) {}

  static size_t bytes(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }
  SendParams sending(const HandOff& slot) const {
    return {.x = x.data(),
            .ids = ids.data(),
            .weights = weights.data(),
            .host_x = reinterpret_cast<float*>(host_x.device()),
            .host_ids = reinterpret_cast<int32_t*>(host_ids.device()),
            .host_weights = reinterpret_cast<float*>(host_weights.device()),
            .values = values,
            .pairs = pairs,
            .slot = slot,
            .places = nullptr,
            .placed_ids = nullptr};
  }
  ReceiveParams receiving(const HandOff& slot) const {
    return {.host_sum = reinterpret_cast<const float*>(host_sum.device()),
            .residual = x.data(),
            .values = values,
            .slot = slot};
  }

  int64_t values, pairs;
  testing::DeviceVector<float> x, weights;
  testing::DeviceVector<int32_t> ids;
  PinnedMemory host_x, host_sum, host_ids, host_weights;
};

class HandOffs : public testing::DeviceTest, public ::testing::WithParamInterface<Size> {};

TEST_P(HandOffs, AReplayedGraphWaitsForTheHost) {
  constexpr int kReplays = 300;
  const Size size = GetParam();
  const platform::cuda::Stream own;
  Operands operands(size);
  const testing::DeviceVector<float> ones(
      std::vector<float>(static_cast<size_t>(operands.values), 1.0F));
  testing::DeviceVector<uint32_t> counts(2);
  PinnedMemory flags(3 * 64);
  const HandOff slot = {counts.data(), counts.data() + 1,
                        reinterpret_cast<uint32_t*>(flags.device()),
                        reinterpret_cast<const uint32_t*>(flags.device() + 64),
                        reinterpret_cast<uint64_t*>(flags.device() + 128)};

  // x += 1; the host reads x and gives x + i; x += that.
  const Graph graph = Graph::capture(own, [&](cudaStream_t stream) {
    add({.a = {operands.x.data(), size.width},
         .b = {ones.data(), size.width},
         .out = {operands.x.data(), size.width},
         .n = size.width,
         .tokens = static_cast<int>(size.tokens)},
        stream);
    send(operands.sending(slot), stream);
    receive(operands.receiving(slot), stream);
  });
  std::atomic_ref<uint32_t> raised(*reinterpret_cast<uint32_t*>(flags.data()));
  std::atomic_ref<uint32_t> answered(*reinterpret_cast<uint32_t*>(flags.data() + 64));
  float x = 0.0F;
  for (uint32_t i = 1; i <= kReplays; ++i) {
    graph.launch(own.get());
    while (raised.load(std::memory_order_acquire) != i) {
    }
    x += 1.0F;
    int64_t wrong = 0;
    // Small numbers, exact in float32.
    const float next = static_cast<float>(i % 7) - x;
    for (int64_t v = 0; v < operands.values; ++v) {
      wrong += operands.host_x.as<float>()[v] != x;
      operands.host_sum.as<float>()[v] = next;
    }
    x += next;
    answered.store(i, std::memory_order_release);
    ASSERT_EQ(wrong, 0) << "replay " << i;
  }
  own.synchronize();
  // The host looked at all values meanwhile; no replay takes a second.
  EXPECT_GT(flags.as<uint64_t>()[16], 0U);
  EXPECT_LT(flags.as<uint64_t>()[16], 1'000'000'000U);
  EXPECT_EQ(operands.x.host(), std::vector<float>(static_cast<size_t>(operands.values), x));
}

TEST_P(HandOffs, WithoutAFlagAllOperandsAreSentAndAdded) {
  Operands operands(GetParam());
  const std::vector<float> x = testing::random_floats(static_cast<size_t>(operands.values), 1);
  const std::vector<float> weights = testing::random_floats(static_cast<size_t>(operands.pairs), 2);
  std::vector<int32_t> ids(weights.size());
  std::iota(ids.begin(), ids.end(), 5);
  operands.x.assign(x);
  operands.weights.assign(weights);
  operands.ids.assign(ids);

  send(operands.sending({}), stream());
  synchronize();
  EXPECT_TRUE(std::equal(x.begin(), x.end(), operands.host_x.as<float>()));
  EXPECT_TRUE(std::equal(weights.begin(), weights.end(), operands.host_weights.as<float>()));
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), operands.host_ids.as<int32_t>()));

  const std::vector<float> sum = testing::random_floats(x.size(), 3);
  std::copy(sum.begin(), sum.end(), operands.host_sum.as<float>());
  receive(operands.receiving({}), stream());
  synchronize();
  const std::vector<float> got = operands.x.host();
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], x[i] + sum[i]) << i;
}

// Experts 0, 3, 6, ... have a place: the host sees their ids negative, later kernels see the
// places.
TEST_P(HandOffs, ExpertsWithAPlaceAreTheDevices) {
  Operands operands(GetParam());
  std::vector<int32_t> ids(static_cast<size_t>(operands.pairs)), table(64, -1);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 5 % 65) - 1;
  for (size_t e = 0; e < table.size(); e += 3) table[e] = static_cast<int32_t>(e / 3);
  operands.ids.assign(ids);
  const testing::DeviceVector<int32_t> places(table);
  testing::DeviceVector<int32_t> placed(ids.size());
  SendParams params = operands.sending({});
  params.places = places.data();
  params.placed_ids = placed.data();
  send(params, stream());
  synchronize();
  const std::vector<int32_t> got = placed.host();
  for (size_t i = 0; i < ids.size(); ++i) {
    const int32_t place = ids[i] < 0 ? -1 : table[static_cast<size_t>(ids[i])];
    ASSERT_EQ(got[i], place) << i;
    ASSERT_EQ(operands.host_ids.as<int32_t>()[i], place < 0 ? ids[i] : ~ids[i]) << i;
  }
}

// One block; several with a rest of less than four values; more than there are blocks for.
INSTANTIATE_TEST_SUITE_P(Sizes, HandOffs,
                         ::testing::Values(Size{1, 2048, 6}, Size{3, 2049, 8}, Size{48, 4096, 8}));

}  // namespace
}  // namespace tandem::cuda
