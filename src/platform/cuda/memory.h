// Owners of memory that the CUDA runtime gives: on the device, and on the host where the device
// reaches it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace tandem::platform::cuda {

// Memory of the current device, aligned to 256 bytes, contents undefined.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(size_t bytes);  // throws Error that says how much was free
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Page-locked host memory: copies to and from it are asynchronous, and kernels reach it at
// device().
class PinnedMemory {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(size_t bytes);  // zeros; throws Error
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        device_(std::exchange(other.device_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(device_, other.device_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }
  std::byte* device() const { return device_; }  // the same bytes as kernels address them
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::byte* device_ = nullptr;
  size_t bytes_ = 0;
};

// Locks the pages of memory that somebody else owns and keeps: copies from it are asynchronous and
// run at the bus's speed.
class LockedMemory {
 public:
  explicit LockedMemory(std::span<std::byte> memory);  // throws Error
  ~LockedMemory();
  LockedMemory(const LockedMemory&) = delete;
  LockedMemory& operator=(const LockedMemory&) = delete;

 private:
  std::byte* data_;
};

}  // namespace tandem::platform::cuda
