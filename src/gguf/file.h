// A GGUF model: metadata and tensor views over memory-mapped files. Everything a file says is
// checked before use; any fault throws Error with one line. Knows the container, not architectures.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/tensor.h"

namespace tandem::gguf {

// Value types of the container.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

struct Array;
// Integers widen to u64/i64, floats to double; strings are views into the mapping.
using Value =
    std::variant<uint64_t, int64_t, double, bool, std::string_view, std::shared_ptr<Array>>;
struct Array {
  ValueType type;  // of the elements
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
               std::vector<std::string_view>>
      items;
  size_t size() const;
};

struct Entry {
  std::string_view key;
  ValueType type;
  Value value;
};

struct TensorInfo {
  std::string_view name;
  Tensor tensor;    // CPU view into the mapping; shape outermost first
  int file_index;   // which file of a split model
  uint64_t offset;  // of the data within that file
  uint64_t bytes;
};

class File {
 public:
  // path: a .gguf file, the first (or any) file of a split model `-00001-of-000NN.gguf`, or a
  // directory that holds exactly one model. Throws Error.
  static std::unique_ptr<File> open(const std::string& path);
  virtual ~File() = default;

  virtual std::string_view path() const = 0;  // of the first file
  virtual uint32_t version() const = 0;
  virtual uint64_t total_bytes() const = 0;             // of all files
  virtual std::span<const Entry> metadata() const = 0;  // in file order
  virtual std::span<const TensorInfo> tensors() const = 0;

  virtual const Entry* find(std::string_view key) const = 0;
  virtual const TensorInfo* find_tensor(std::string_view name) const = 0;

  // Copies bytes of a tensor's data from `offset` on: the way to read much of it, faster than the
  // mapping. Throws Error when the file cannot be read. Any thread.
  virtual void read(const TensorInfo& tensor, uint64_t offset, std::span<std::byte> out) const = 0;

  // Typed lookups. The plain form throws Error when the key is missing or of another kind, naming
  // the key; the
  // `_or` form gives the default only when the key is missing. Any integer type converts if the
  // value fits.
  uint64_t get_u64(std::string_view key) const;
  uint64_t get_u64_or(std::string_view key, uint64_t fallback) const;
  double get_f64(std::string_view key) const;  // integers convert too
  double get_f64_or(std::string_view key, double fallback) const;
  bool get_bool_or(std::string_view key, bool fallback) const;
  std::string_view get_string(std::string_view key) const;
  std::string_view get_string_or(std::string_view key, std::string_view fallback) const;
  const Array* find_array(
      std::string_view key) const;  // null when missing; Error when not an array
};

}  // namespace tandem::gguf
