// A stretch of addresses for large data that lives as long as the process: the system gives memory
// at the first touch, in huge pages where it has them, on the node of the thread that touches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::platform {

class Reservation {
 public:
  Reservation() = default;
  // Reserves addresses only: more than there is memory is allowed. Throws Error.
  explicit Reservation(int64_t bytes);
  ~Reservation();
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;

  std::byte* data() const { return data_; }  // at a multiple of a huge page
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace tandem::platform
