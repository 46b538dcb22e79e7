// Names of KV pages: a page is named by all that its contents depend on, so equal names mean equal
// bytes, in this process, in another one and on disk.
//
//   root  = hash(model identity, cache scope)
//   page0 = hash(root,  hash(its S token ids))
//   page1 = hash(page0, hash(its S token ids)) ...
#pragma once

#include <span>

#include "base/hash128.h"
#include "engine/batch.h"

namespace tandem::scheduler {

using PageName = Hash128;

// The name before the first page. Requests of different scopes share no page.
PageName root_name(const Hash128& model_identity, uint64_t cache_scope);
PageName page_name(const PageName& previous, std::span<const engine::TokenId> tokens);

}  // namespace tandem::scheduler
