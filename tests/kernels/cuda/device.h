// What tests of device code share: skipping without a GPU, and vectors that live on the device.
#pragma once

#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "platform/cuda/error.h"
#include "platform/cuda/memory.h"
#include "platform/cuda/stream.h"
#include "platform/gpu.h"

namespace tandem::cuda::testing {

// A test that needs a device; skipped with the reason where there is none.
class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    static const platform::Gpus gpus = platform::find_gpus();
    if (gpus.list.empty()) GTEST_SKIP() << gpus.missing;
    if (!stream_) stream_ = std::make_unique<platform::cuda::Stream>();
  }
  cudaStream_t stream() const { return stream_->get(); }
  void synchronize() const { stream_->synchronize(); }
  const platform::cuda::Stream& stream_owner() const { return *stream_; }

 private:
  std::unique_ptr<platform::cuda::Stream> stream_;
};

// n values on the device, zeros at first. Copies wait for all of the device, so they order
// themselves with every stream.
template <typename T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t n) : size_(n), memory_(n * sizeof(T)) {
    if (n > 0) TANDEM_CUDA_CALL(cudaMemset(memory_.data(), 0, n * sizeof(T)));
    TANDEM_CUDA_CALL(cudaDeviceSynchronize());
  }
  DeviceVector(const std::vector<T>& values) : DeviceVector(values.size()) {  // NOLINT: implicit
    assign(values);
  }
  void assign(const std::vector<T>& values) {
    ASSERT_LE(values.size(), size_);
    TANDEM_CUDA_CALL(
        cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    TANDEM_CUDA_CALL(cudaDeviceSynchronize());
  }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    TANDEM_CUDA_CALL(cudaDeviceSynchronize());
    TANDEM_CUDA_CALL(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  T* data() const { return memory_.as<T>(); }
  size_t size() const { return size_; }

 private:
  size_t size_;
  platform::cuda::DeviceMemory memory_;
};

// n normally distributed floats, the same on every machine.
inline std::vector<float> random_floats(size_t n, uint32_t seed, float deviation = 1.0F) {
  std::mt19937 bits(seed);
  std::vector<float> values(n);
  // The sum of four uniform values, which every standard library computes alike.
  for (float& value : values) {
    float sum = 0.0F;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(bits() >> 8) * 0x1.0p-24F - 0.5F;
    value = sum * 1.7320508F * deviation;
  }
  return values;
}

}  // namespace tandem::cuda::testing
