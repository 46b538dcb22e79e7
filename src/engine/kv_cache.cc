// Reserves the cache as anonymous memory, which the system fills in page by page as tokens arrive.
#include "engine/kv_cache.h"

#include <sys/mman.h>

#include "base/error.h"

namespace tandem::engine {

KvCache::KvCache(ops::KvLayer form, int layers, int pages) {
  form.page_bytes = ops::kv_page_bytes(form);
  const int64_t layer_bytes = form.page_bytes * pages;
  bytes_ = static_cast<size_t>(layer_bytes * layers);
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(
        "no memory for a KV cache of {} tokens: {} layers x {} bytes = {} MiB; lower --cache_lens",
        int64_t{pages} * form.page_size, layers, layer_bytes, bytes_ >> 20);
  }
  madvise(memory, bytes_, MADV_HUGEPAGE);
  data_ = {static_cast<std::byte*>(memory), Unmap{bytes_}};
  for (int layer = 0; layer < layers; ++layer) {
    form.data = data_.get() + layer * layer_bytes;
    layers_.push_back(form);
  }
}

void KvCache::Unmap::operator()(std::byte* p) const { munmap(p, bytes); }

}  // namespace tandem::engine
