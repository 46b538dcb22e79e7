// Storage of the paged key/value cache of all layers. Which sequence holds which page is the
// scheduler's business.
#pragma once

#include <span>
#include <vector>

#include "base/check.h"
#include "ops/attention.h"
#include "platform/reservation.h"

namespace tandem::engine {

inline std::byte* page_of(const ops::KvLayer& layer, int32_t page) {
  return layer.data + layer.page_bytes * page;
}

// A page of all layers beside a buffer [L, page] of bytes: f(layer's page, its part of the buffer,
// bytes).
template <typename Byte, typename F>
void for_each_layer(std::span<const ops::KvLayer> layers, int32_t page, std::span<Byte> buffer,
                    const F& f) {
  size_t at = 0;
  for (const ops::KvLayer& layer : layers) {
    const auto bytes = static_cast<size_t>(layer.page_bytes);
    TANDEM_CHECK(at + bytes <= buffer.size(), "a page in {} bytes", buffer.size());
    f(page_of(layer, page), buffer.data() + at, bytes);
    at += bytes;
  }
  TANDEM_CHECK(at == buffer.size(), "a page of {} bytes in {}", at, buffer.size());
}

class KvCache {
 public:
  // form: cache of one layer, without data. Reserves layers * pages * ops::kv_page_bytes(form).
  KvCache(ops::KvLayer form, int layers, int pages);

  std::span<const ops::KvLayer> layers() const { return layers_; }
  int64_t bytes() const { return data_.bytes(); }

  // A page of all layers, [L, page]: out, in, and from one page to another.
  void read(int32_t page, std::span<std::byte> out) const;
  void write(int32_t page, std::span<const std::byte> in);
  void copy(int32_t from, int32_t to);

 private:
  platform::Reservation data_;  // [L, P, page]
  std::vector<ops::KvLayer> layers_;
};

}  // namespace tandem::engine
