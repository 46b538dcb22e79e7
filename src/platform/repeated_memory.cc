// A file that exists in memory only, mapped again and again.
#include "platform/repeated_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

namespace tandem::platform {
namespace {

[[noreturn]] void refuse(int64_t bytes, const char* what) {
  throw Error("a view of {} MiB cannot be made: {}: {}", bytes >> 20, what, std::strerror(errno));
}

// Maps the file at every stretch of the reserved view; false when the system refuses.
bool map_all(int file, std::byte* view, int64_t mapped_bytes, int64_t stretch_bytes) {
  for (int64_t at = 0; at < mapped_bytes; at += stretch_bytes) {
    if (mmap(view + at, static_cast<size_t>(stretch_bytes), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
      return false;
    }
  }
  return true;
}

}  // namespace

RepeatedMemory::RepeatedMemory(int64_t stretch_bytes, int64_t view_bytes)
    : stretch_bytes_(stretch_bytes),
      mapped_bytes_((view_bytes + stretch_bytes - 1) / stretch_bytes * stretch_bytes) {
  const auto reserved = static_cast<size_t>(mapped_bytes_);
  void* memory =
      mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) refuse(view_bytes, "addresses");
  view_ = static_cast<std::byte*>(memory);
  const int file = memfd_create("tandem", MFD_CLOEXEC);
  const bool mapped = file >= 0 && ftruncate(file, stretch_bytes) == 0 &&
                      map_all(file, view_, mapped_bytes_, stretch_bytes);
  const int error = errno;
  if (file >= 0) close(file);
  if (mapped) return;
  munmap(view_, reserved);
  errno = error;
  refuse(view_bytes, "mappings (vm.max_map_count limits their number)");
}

RepeatedMemory::~RepeatedMemory() {
  if (view_ != nullptr) munmap(view_, static_cast<size_t>(mapped_bytes_));
}

RepeatedMemory::RepeatedMemory(RepeatedMemory&& other) noexcept
    : stretch_bytes_(other.stretch_bytes_),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)),
      view_(std::exchange(other.view_, nullptr)) {}

RepeatedMemory& RepeatedMemory::operator=(RepeatedMemory&& other) noexcept {
  std::swap(stretch_bytes_, other.stretch_bytes_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(view_, other.view_);
  return *this;
}

void RepeatedMemory::read(int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const int64_t from = offset % stretch_bytes_;
    const auto count = std::min(out.size(), static_cast<size_t>(stretch_bytes_ - from));
    std::memcpy(out.data(), view_ + from, count);
    out = out.subspan(count);
    offset += static_cast<int64_t>(count);
  }
}

}  // namespace tandem::platform
