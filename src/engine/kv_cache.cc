// The cache's memory, which the system gives page by page as tokens arrive.
#include "engine/kv_cache.h"

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

}  // namespace tandem::engine
