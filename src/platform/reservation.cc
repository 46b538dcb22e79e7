// Anonymous mmap, aligned by cutting off what is too much.
#include "platform/reservation.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/mman.h>

#include "base/error.h"

namespace tandem::platform {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

Reservation::Reservation(int64_t bytes) {
  if (bytes <= 0) return;
  bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  const auto mapped = static_cast<size_t>(bytes_ + kHugePage);
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error("{} MiB of addresses cannot be reserved: {}", bytes_ >> 20, std::strerror(errno));
  }
  auto* first = static_cast<std::byte*>(memory);
  const auto before = -reinterpret_cast<uintptr_t>(first) % static_cast<uintptr_t>(kHugePage);
  data_ = first + before;
  if (before > 0) munmap(first, before);
  munmap(data_ + bytes_, static_cast<size_t>(kHugePage) - before);
  madvise(data_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);  // a refusal costs speed only
}

Reservation::~Reservation() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

Reservation::Reservation(Reservation&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace tandem::platform
