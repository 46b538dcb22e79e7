// One GGUF file parsed: header, metadata, tensor table. All of it is checked; values are views into
// the bytes.
//
//   magic "GGUF" | version u32 | tensor count u64 | metadata count u64
//   metadata:  key string, value type u32, value            (strings: length u64, bytes; arrays:
//   type u32, count u64, items) tensors:   name string, dims u32, ne[dims] u64 (innermost first),
//   type u32, offset u64 from the data's start padding to general.alignment (32 by default), then
//   the data; each tensor starts at a multiple of the alignment
#pragma once

#include <span>
#include <string>
#include <vector>

#include "gguf/file.h"

namespace tandem::gguf {

struct Container {
  uint32_t version;
  std::vector<Entry> metadata;
  std::vector<TensorInfo> tensors;

  const Entry* find(std::string_view key) const;
};

// path is for messages only. Throws Error; never allocates more than a small multiple of the file's
// size.
Container parse_container(const std::string& path, std::span<const std::byte> bytes,
                          int file_index);

}  // namespace tandem::gguf
