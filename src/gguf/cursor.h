// Reads little-endian values from a file's bytes; every read is bounds-checked.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tandem::gguf {

class Cursor {
 public:
  Cursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  // what: the thing being read, for the message when the file ends before it.
  template <typename T>
  T read(std::string_view what) {
    T value;
    require(sizeof value, what);
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    return value;
  }

  std::string_view read_string(std::string_view what) {
    const auto length = read<uint64_t>(what);
    require(length, what);
    const char* text = reinterpret_cast<const char*>(bytes_.data() + position_);
    position_ += length;
    return {text, length};
  }

  // A count of items that take at least min_bytes each: refused when they cannot be in the file.
  uint64_t read_count(uint64_t min_bytes, std::string_view what) {
    const auto count = read<uint64_t>(what);
    if (count > remaining() / min_bytes) {
      throw Error("{}: {} is {}, more than the file can hold", path_, what, count);
    }
    return count;
  }

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }
  const std::string& path() const { return path_; }

 private:
  void require(uint64_t count, std::string_view what) const {
    if (count > remaining()) {
      throw Error("{}: truncated or broken: {} at byte {} goes beyond the end of the file", path_,
                  what, position_);
    }
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

}  // namespace tandem::gguf
