// What connects the scheduler's disk tier with a directory, and says whose pages are in it.
#pragma once

#include <memory>
#include <string>

#include "engine/engine.h"
#include "gguf/file.h"
#include "scheduler/page_store.h"

namespace tandem::cli {

// All that the bytes of a KV page depend on beside its tokens: the model, the page's form, and the
// build, whose arithmetic another one's need not equal to the last bit.
Hash128 page_identity(const gguf::File& model, const engine::EngineInfo& engine);

// Throws Error when the directory cannot be used.
std::unique_ptr<scheduler::PageDisk> open_page_disk(const std::string& directory, int64_t max_bytes,
                                                    int64_t page_bytes, const Hash128& identity);

}  // namespace tandem::cli
