// Storage of the paged key/value cache of all layers. Which sequence holds which page is the
// scheduler's business.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ops/attention.h"

namespace tandem::engine {

class KvCache {
 public:
  // form: cache of one layer, without data. Reserves layers * pages * ops::kv_page_bytes(form);
  // throws Error with the arithmetic when it cannot.
  KvCache(ops::KvLayer form, int layers, int pages);

  std::span<const ops::KvLayer> layers() const { return layers_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Unmap> data_;  // [L, P, page]
  std::vector<ops::KvLayer> layers_;
  size_t bytes_ = 0;
};

}  // namespace tandem::engine
