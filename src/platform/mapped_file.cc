// mmap with errors that name the file.
#include "platform/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace tandem::platform {

MappedFile::MappedFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("{}: cannot be opened: {}", path, std::strerror(errno));
  struct stat status {};
  const bool is_file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (is_file && status.st_size > 0) {
    size_ = static_cast<size_t>(status.st_size);
    void* memory = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) data_ = static_cast<const std::byte*>(memory);
  }
  const int error = errno;
  close(fd);
  if (!is_file) throw Error("{}: is not a regular file", path);
  if (status.st_size == 0) throw Error("{}: is empty", path);
  if (data_ == nullptr) throw Error("{}: cannot be mapped: {}", path, std::strerror(error));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::will_need() const { madvise(const_cast<std::byte*>(data_), size_, MADV_WILLNEED); }

}  // namespace tandem::platform
