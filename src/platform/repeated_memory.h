// A long view of a short stretch of memory: the same bytes again and again, at consecutive
// addresses. Takes the memory of the stretch and of the page tables of what is touched.
//
//   view    | stretch | stretch | stretch | str |
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tandem::platform {

class RepeatedMemory {
 public:
  // stretch_bytes: a multiple of 4096. Zeros. Throws Error.
  RepeatedMemory(int64_t stretch_bytes, int64_t view_bytes);
  ~RepeatedMemory();
  RepeatedMemory(RepeatedMemory&& other) noexcept;
  RepeatedMemory& operator=(RepeatedMemory&& other) noexcept;

  // What is written here is seen in the whole view.
  std::span<std::byte> stretch() { return {view_, static_cast<size_t>(stretch_bytes_)}; }
  std::byte* view() const { return view_; }
  bool holds(const void* p) const {
    return p >= view_ && static_cast<const std::byte*>(p) < view_ + mapped_bytes_;
  }
  // Copies bytes of the view, touching its first stretch only.
  void read(int64_t offset, std::span<std::byte> out) const;

 private:
  int64_t stretch_bytes_ = 0;
  int64_t mapped_bytes_ = 0;  // of the view, up to whole stretches
  std::byte* view_ = nullptr;
};

}  // namespace tandem::platform
