// Pages are records of platform's store.
#include "cli/page_disk.h"

#include <xxhash.h>

#include "base/log.h"
#include "cli/build_commit.h"
#include "gguf/identity.h"
#include "platform/record_store.h"

namespace tandem::cli {
namespace {

class RecordDisk : public scheduler::PageDisk {
 public:
  RecordDisk(const platform::RecordStore::Options& options, int64_t page_bytes)
      : store_(options),
        capacity_(options.max_bytes / platform::RecordStore::file_bytes(page_bytes)) {
    log::info("{}: {} MiB of pages, at most {} MiB", options.directory, store_.bytes() >> 20,
              options.max_bytes >> 20);
  }

  bool has(const Hash128& name) const override { return store_.has(name); }
  void touch(std::span<const Hash128> names) override { store_.touch(names); }
  bool read(const Hash128& name, std::span<std::byte> out) override {
    return store_.read(name, out);
  }
  bool write(const Hash128& name, std::span<const std::byte> in) override {
    return store_.write(name, in);
  }
  scheduler::Tier pages() const override {
    return {.pages_total = capacity_, .pages_used = store_.records()};
  }

 private:
  platform::RecordStore store_;
  const int64_t capacity_;  // in pages of this model
};

}  // namespace

Hash128 page_identity(const gguf::File& model, const engine::EngineInfo& engine) {
  const Hash128 file = gguf::identity(model);
  const std::string text = fmt::format("{} {} {} {} {}", to_hex(file), engine.page_size,
                                       engine.page_bytes, engine.page_format, build_commit());
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {.high = hash.high64, .low = hash.low64};
}

std::unique_ptr<scheduler::PageDisk> open_page_disk(const std::string& directory, int64_t max_bytes,
                                                    int64_t page_bytes, const Hash128& identity) {
  return std::make_unique<RecordDisk>(
      platform::RecordStore::Options{
          .directory = directory, .max_bytes = max_bytes, .owner = identity},
      page_bytes);
}

}  // namespace tandem::cli
