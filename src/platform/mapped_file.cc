// mmap and pread with errors that name the file.
#include "platform/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"

namespace tandem::platform {
namespace {

// What is asked for ahead of a read that found its bytes not in memory. The kernel by itself reads
// 128 KiB ahead in most installations, and takes threads that read in turns for random access: half
// the speed on the disk this was measured with.
constexpr int64_t kReadAhead = int64_t{16} << 20;

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw Error("{}: cannot be opened: {}", path, std::strerror(errno));
  struct stat status {};
  const bool is_file = fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  if (is_file && status.st_size > 0) {
    size_ = static_cast<size_t>(status.st_size);
    void* memory = mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (memory != MAP_FAILED) data_ = static_cast<const std::byte*>(memory);
  }
  if (data_ != nullptr) return;
  const int error = errno;
  close(descriptor_);
  if (!is_file) throw Error("{}: is not a regular file", path);
  if (status.st_size == 0) throw Error("{}: is empty", path);
  throw Error("{}: cannot be mapped: {}", path, std::strerror(error));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::read(uint64_t offset, std::span<std::byte> out) const {
  auto at = static_cast<off_t>(offset);
  iovec rest = {out.data(), out.size()};
  bool may_wait = false;
  while (rest.iov_len > 0) {
    // First what is in memory, without waiting for the disk.
    const ssize_t count = preadv2(descriptor_, &rest, 1, at, may_wait ? 0 : RWF_NOWAIT);
    if (count > 0) {
      rest.iov_base = static_cast<std::byte*>(rest.iov_base) + count;
      rest.iov_len -= static_cast<size_t>(count);
      at += count;
      continue;
    }
    if (!may_wait && count < 0 && (errno == EAGAIN || errno == EOPNOTSUPP)) {
      posix_fadvise(descriptor_, at, kReadAhead, POSIX_FADV_WILLNEED);
      may_wait = true;
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    throw Error("{}: cannot be read at byte {}: {}", path_, at,
                count == 0 ? "the file has become shorter" : std::strerror(errno));
  }
}

}  // namespace tandem::platform
