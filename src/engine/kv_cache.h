// Storage of the paged key/value cache of all layers. Which sequence holds which page is the
// scheduler's business.
#pragma once

#include <span>
#include <vector>

#include "ops/attention.h"
#include "platform/reservation.h"

namespace tandem::engine {

class KvCache {
 public:
  // form: cache of one layer, without data. Reserves layers * pages * ops::kv_page_bytes(form).
  KvCache(ops::KvLayer form, int layers, int pages);

  std::span<const ops::KvLayer> layers() const { return layers_; }

  // A page of all layers, [L, page]: out, in, and from one page to another.
  int64_t page_bytes() const;
  void read(int32_t page, std::span<std::byte> out) const;
  void write(int32_t page, std::span<const std::byte> in);
  void copy(int32_t from, int32_t to);

 private:
  platform::Reservation data_;  // [L, P, page]
  std::vector<ops::KvLayer> layers_;
};

}  // namespace tandem::engine
