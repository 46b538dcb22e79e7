// Owners of memory, streams, events and graphs; what they throw when there is no device, and when
// there is.
#include <cstring>
#include <stdexcept>

#include <gtest/gtest.h>

#include "base/error.h"
#include "platform/cuda/error.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "platform/gpu.h"

namespace tandem::platform::cuda {
namespace {

std::string message_of(auto&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CudaError, NamesTheCall) {
  const std::string message =
      message_of([] { check(cudaErrorInvalidValue, "cudaMemcpy(a, b, 3)"); });
  EXPECT_EQ(message, "cudaMemcpy failed: invalid argument (cudaErrorInvalidValue)");
  EXPECT_EQ(message_of([] { check(cudaSuccess, "cudaMemcpy(a)"); }), "");
}

TEST(CudaWithoutDevice, FailWithOneLineWithoutADevice) {
  if (!find_gpus().list.empty()) GTEST_SKIP() << "there is a GPU";
  EXPECT_NE(message_of([] { DeviceMemory memory(1); }), "");
  EXPECT_NE(message_of([] { PinnedMemory memory(1); }), "");
  EXPECT_NE(message_of([] { Stream stream; }), "");
  EXPECT_NE(message_of([] { Event event; }), "");
}

class CudaDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    const Gpus gpus = find_gpus();
    if (gpus.list.empty()) GTEST_SKIP() << gpus.missing;
  }
};

TEST_F(CudaDevice, MemoryMovesWithItsOwner) {
  DeviceMemory first(1 << 20);
  std::byte* const data = first.data();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 256, 0U);
  DeviceMemory second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(DeviceMemory(0).data(), nullptr);

  PinnedMemory pinned(4096);
  EXPECT_NE(pinned.device(), nullptr);
  EXPECT_EQ(pinned.as<int>()[1023], 0);
}

TEST_F(CudaDevice, RefusesWhatDoesNotFitAndGoesOn) {
  const std::string message = message_of([] { DeviceMemory memory(size_t{1} << 50); });
  EXPECT_NE(message.find("MiB are free"), std::string::npos) << message;
  EXPECT_NO_THROW(DeviceMemory(1024));
  EXPECT_NO_THROW(TANDEM_CUDA_CALL(cudaDeviceSynchronize()));
}

// Copies the pinned bytes to the device and back behind them.
void round_trip(const PinnedMemory& pinned, const DeviceMemory& memory, cudaStream_t stream) {
  const size_t half = pinned.bytes() / 2;
  TANDEM_CUDA_CALL(
      cudaMemcpyAsync(memory.data(), pinned.data(), half, cudaMemcpyHostToDevice, stream));
  TANDEM_CUDA_CALL(
      cudaMemcpyAsync(pinned.data() + half, memory.data(), half, cudaMemcpyDeviceToHost, stream));
}

TEST_F(CudaDevice, GraphsRepeatWhatWasCaptured) {
  const Stream stream;
  const DeviceMemory memory(4);
  const PinnedMemory pinned(8);
  Graph graph;
  EXPECT_FALSE(graph);
  graph = Graph::capture(stream, [&](cudaStream_t on) { round_trip(pinned, memory, on); });
  EXPECT_TRUE(graph);
  const Event begin(Event::Timing::kOn), end(Event::Timing::kOn);
  for (const int value : {41, 42}) {
    pinned.as<int>()[0] = value;
    begin.record(stream.get());
    graph.launch(stream.get());
    end.record(stream.get());
    end.synchronize();
    EXPECT_EQ(pinned.as<int>()[1], value);
    EXPECT_GE(end.since(begin), 0.0F);
  }
}

TEST_F(CudaDevice, AFailedCaptureLeavesTheStreamUsable) {
  const Stream stream;
  const DeviceMemory memory(4);
  const PinnedMemory pinned(8);
  EXPECT_THROW(Graph::capture(stream,
                              [&](cudaStream_t on) {
                                round_trip(pinned, memory, on);
                                throw std::runtime_error("on purpose");
                              }),
               std::runtime_error);
  pinned.as<int>()[0] = 7;
  round_trip(pinned, memory, stream.get());
  stream.synchronize();
  EXPECT_EQ(pinned.as<int>()[1], 7);
}

}  // namespace
}  // namespace tandem::platform::cuda
