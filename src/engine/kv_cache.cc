// The cache's memory, which the system gives page by page as tokens arrive.
#include "engine/kv_cache.h"

#include <cstring>

namespace tandem::engine {
KvCache::KvCache(ops::KvLayer form, int layers, int pages) {
  form.page_bytes = ops::kv_page_bytes(form);
  const int64_t layer_bytes = form.page_bytes * pages;
  data_ = platform::Reservation(layer_bytes * layers);
  for (int layer = 0; layer < layers; ++layer) {
    form.data = data_.data() + layer * layer_bytes;
    layers_.push_back(form);
  }
}

void KvCache::read(int32_t page, std::span<std::byte> out) const {
  for_each_layer(layers(), page, out, [](const std::byte* from, std::byte* to, size_t bytes) {
    std::memcpy(to, from, bytes);
  });
}

void KvCache::write(int32_t page, std::span<const std::byte> in) {
  for_each_layer(layers(), page, in, [](std::byte* to, const std::byte* from, size_t bytes) {
    std::memcpy(to, from, bytes);
  });
}

void KvCache::copy(int32_t from, int32_t to) {
  for (const ops::KvLayer& layer : layers_) {
    std::memcpy(page_of(layer, to), page_of(layer, from), static_cast<size_t>(layer.page_bytes));
  }
}

}  // namespace tandem::engine
