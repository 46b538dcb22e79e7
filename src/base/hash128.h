// A 128-bit name made by hashing. All zero: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/core.h>

namespace tandem {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  bool operator==(const Hash128&) const = default;
  explicit operator bool() const { return (high | low) != 0; }
};

// 32 digits.
inline std::string to_hex(const Hash128& hash) {
  return fmt::format("{:016x}{:016x}", hash.high, hash.low);
}

// For hash tables: any half of a name is as good as random.
struct Hash128Hasher {
  size_t operator()(const Hash128& hash) const { return static_cast<size_t>(hash.low); }
};

}  // namespace tandem
