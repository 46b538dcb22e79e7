// The cache's memory, which the system gives page by page as tokens arrive.
#include "engine/kv_cache.h"

#include <cstring>

#include "base/check.h"

namespace tandem::engine {
namespace {

std::byte* page_of(const ops::KvLayer& layer, int32_t page) {
  return layer.data + layer.page_bytes * page;
}

}  // namespace

KvCache::KvCache(ops::KvLayer form, int layers, int pages) {
  form.page_bytes = ops::kv_page_bytes(form);
  const int64_t layer_bytes = form.page_bytes * pages;
  data_ = platform::Reservation(layer_bytes * layers);
  for (int layer = 0; layer < layers; ++layer) {
    form.data = data_.data() + layer * layer_bytes;
    layers_.push_back(form);
  }
}

int64_t KvCache::page_bytes() const {
  return layers_.empty() ? 0 : layers_[0].page_bytes * static_cast<int64_t>(layers_.size());
}

void KvCache::read(int32_t page, std::span<std::byte> out) const {
  TANDEM_CHECK(static_cast<int64_t>(out.size()) == page_bytes(), "{} bytes", out.size());
  std::byte* to = out.data();
  for (const ops::KvLayer& layer : layers_) {
    std::memcpy(to, page_of(layer, page), static_cast<size_t>(layer.page_bytes));
    to += layer.page_bytes;
  }
}

void KvCache::write(int32_t page, std::span<const std::byte> in) {
  TANDEM_CHECK(static_cast<int64_t>(in.size()) == page_bytes(), "{} bytes", in.size());
  const std::byte* from = in.data();
  for (const ops::KvLayer& layer : layers_) {
    std::memcpy(page_of(layer, page), from, static_cast<size_t>(layer.page_bytes));
    from += layer.page_bytes;
  }
}

void KvCache::copy(int32_t from, int32_t to) {
  for (const ops::KvLayer& layer : layers_) {
    std::memcpy(page_of(layer, to), page_of(layer, from), static_cast<size_t>(layer.page_bytes));
  }
}

}  // namespace tandem::engine
