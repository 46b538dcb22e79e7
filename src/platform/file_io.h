// Reads and writes long stretches of files in pieces that the system works on side by side
// (io_uring), or one after another where the kernel refuses that, as it does in many containers.
// One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace tandem::platform {

class FileIo {
 public:
  // side_by_side: whether to try io_uring.
  explicit FileIo(bool side_by_side = true);
  ~FileIo();

  bool works_side_by_side() const { return ring_ != nullptr; }

  // All of it, or false; errno tells why then, 0 where the file is too short.
  bool read(int descriptor, uint64_t offset, std::span<std::byte> out);
  bool write(int descriptor, uint64_t offset, std::span<const std::byte> in);

 private:
  class Ring;
  std::unique_ptr<Ring> ring_;
};

}  // namespace tandem::platform
