// Scratch memory of a step.
#include "ops/context.h"

#include <cstdlib>

#include "base/error.h"

namespace tandem::ops {

Workspace::Workspace(size_t bytes) : capacity_(aligned(bytes)) {
  owned_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity_)));
  data_ = owned_.get();
  if (!owned_) throw Error("out of memory: {} MiB of working memory", capacity_ >> 20);
}

void Workspace::Free::operator()(std::byte* p) const { std::free(p); }

std::byte* Workspace::take(size_t bytes) {
  const size_t begin = used_;
  used_ += aligned(bytes);
  TANDEM_CHECK(used_ <= capacity_, "workspace of {} bytes, {} wanted", capacity_, used_);
  return data_ + begin;
}

}  // namespace tandem::ops
