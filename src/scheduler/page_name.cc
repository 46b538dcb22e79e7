// xxh3-128: naming a page takes microseconds, computing it milliseconds.
#include "scheduler/page_name.h"

#include <xxhash.h>

namespace tandem::scheduler {
namespace {

struct Link {
  uint64_t words[4];
};

PageName hash_link(const Link& link) {
  const XXH128_hash_t hash = XXH3_128bits(&link, sizeof link);
  return {.high = hash.high64, .low = hash.low64};
}

}  // namespace

PageName root_name(const Hash128& model_identity, uint64_t cache_scope) {
  return hash_link({{model_identity.high, model_identity.low, cache_scope, 0}});
}

PageName page_name(const PageName& previous, std::span<const engine::TokenId> tokens) {
  const XXH128_hash_t own = XXH3_128bits(tokens.data(), tokens.size_bytes());
  return hash_link({{previous.high, previous.low, own.high64, own.low64}});
}

}  // namespace tandem::scheduler
