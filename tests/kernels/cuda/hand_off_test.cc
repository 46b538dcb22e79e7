// Work for a host thread in the middle of a graph: what it reads is what was enqueued before, what
// follows sees what it wrote.
#include "kernels/cuda/hand_off.h"

#include <atomic>

#include "kernels/cuda/elementwise.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda {
namespace {

using platform::cuda::DeviceMemory;
using platform::cuda::Graph;
using platform::cuda::PinnedMemory;

class HandOffs : public testing::DeviceTest {};

TEST_F(HandOffs, AReplayedGraphWaitsForTheHost) {
  constexpr int kReplays = 1000, kValues = 4;
  const platform::cuda::Stream own;
  DeviceMemory count(sizeof(uint32_t)), values(kValues * sizeof(float)),
      one(kValues * sizeof(float));
  PinnedMemory flags(2 * 64), shared(kValues * sizeof(float));
  ASSERT_EQ(cudaMemset(count.data(), 0, count.bytes()), cudaSuccess);
  ASSERT_EQ(cudaMemset(values.data(), 0, values.bytes()), cudaSuccess);
  const std::vector<float> ones(kValues, 1.0F);
  ASSERT_EQ(cudaMemcpy(one.data(), ones.data(), one.bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  const HandOff slot = {count.as<uint32_t>(), reinterpret_cast<uint32_t*>(flags.device()),
                        reinterpret_cast<const uint32_t*>(flags.device() + 64)};

  // values += 1; the host doubles them; values += 1.
  const Graph graph = Graph::capture(own, [&](cudaStream_t stream) {
    const auto increment = [&] {
      add({.a = {values.as<float>(), kValues},
           .b = {one.as<float>(), kValues},
           .out = {values.as<float>(), kValues},
           .n = kValues,
           .tokens = 1},
          stream);
    };
    increment();
    cudaMemcpyAsync(shared.data(), values.data(), shared.bytes(), cudaMemcpyDeviceToHost, stream);
    raise(slot, stream);
    await(slot, stream);
    cudaMemcpyAsync(values.data(), shared.data(), shared.bytes(), cudaMemcpyHostToDevice, stream);
    increment();
  });
  std::atomic_ref<uint32_t> raised(*reinterpret_cast<uint32_t*>(flags.data()));
  std::atomic_ref<uint32_t> answered(*reinterpret_cast<uint32_t*>(flags.data() + 64));
  float expected = 0.0F;
  for (uint32_t i = 1; i <= kReplays; ++i) {
    graph.launch(own.get());
    while (raised.load(std::memory_order_acquire) != i) {
    }
    for (int v = 0; v < kValues; ++v) {
      float& value = shared.as<float>()[v];
      ASSERT_EQ(value, expected + 1.0F) << "replay " << i;
      value = std::min(2.0F * value, 1000.0F);
    }
    expected = std::min(2.0F * (expected + 1.0F), 1000.0F) + 1.0F;
    answered.store(i, std::memory_order_release);
  }
  own.synchronize();
  std::vector<float> last(kValues);
  ASSERT_EQ(cudaMemcpy(last.data(), values.data(), values.bytes(), cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(last[0], expected);
}

}  // namespace
}  // namespace tandem::cuda
