// Reading all of a model of hundreds of GB to name it would take minutes; training and quantising
// change all of a tensor, so a sample tells.
#include "gguf/identity.h"

#include <algorithm>
#include <array>
#include <memory>

#include <xxhash.h>

namespace tandem::gguf {
namespace {

constexpr size_t kSampleBytes = 4096;

class Hasher {
 public:
  Hasher() : state_(XXH3_createState()) { XXH3_128bits_reset(state_.get()); }

  void add_bytes(const void* data, size_t size) { XXH3_128bits_update(state_.get(), data, size); }
  void add(std::string_view text) {
    add(text.size());
    add_bytes(text.data(), text.size());
  }
  void add(uint64_t value) { add_bytes(&value, sizeof value); }
  void add(int64_t value) { add_bytes(&value, sizeof value); }
  void add(double value) { add_bytes(&value, sizeof value); }
  void add(bool value) { add(static_cast<uint64_t>(value)); }
  void add(const std::shared_ptr<Array>& array) {
    std::visit(
        [&](const auto& items) {
          add(items.size());
          for (const auto& item : items) add(item);
        },
        array->items);
  }

  Hash128 result() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return {.high = hash.high64, .low = hash.low64};
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};

void add_metadata(Hasher& hasher, const File& file) {
  for (const Entry& entry : file.metadata()) {
    if (entry.key.starts_with("tokenizer.")) continue;  // large, and its ids are what counts
    hasher.add(entry.key);
    hasher.add(static_cast<uint64_t>(entry.type));
    std::visit([&](const auto& value) { hasher.add(value); }, entry.value);
  }
}

void add_tensor(Hasher& hasher, const File& file, const TensorInfo& info) {
  hasher.add(info.name);
  hasher.add(static_cast<uint64_t>(info.tensor.dtype));
  for (const int64_t dim : info.tensor.shape.dim) hasher.add(dim);
  hasher.add(info.bytes);
  std::array<std::byte, kSampleBytes> sample;
  const std::span<std::byte> out(sample.data(), std::min<uint64_t>(info.bytes, kSampleBytes));
  for (const uint64_t offset : {uint64_t{0}, (info.bytes - out.size()) / 2}) {
    file.read(info, offset, out);
    hasher.add_bytes(out.data(), out.size());
  }
}

}  // namespace

Hash128 identity(const File& file) {
  Hasher hasher;
  add_metadata(hasher, file);
  for (const TensorInfo& info : file.tensors()) add_tensor(hasher, file, info);
  return hasher.result();
}

}  // namespace tandem::gguf
