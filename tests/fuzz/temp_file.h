// A file in memory for targets that read files.
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include <unistd.h>

namespace tandem::fuzz {

class TempFile {
 public:
  explicit TempFile(const std::string& suffix)
      : path_("/dev/shm/tandem-fuzz-" + std::to_string(getpid()) + suffix) {}
  ~TempFile() { unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }
  void write(std::string_view bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  const std::string path_;
};

}  // namespace tandem::fuzz
