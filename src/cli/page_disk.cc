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
  explicit RecordDisk(const platform::RecordStore::Options& options) : store_(options) {}

  bool has(const Hash128& name) const override { return store_.has(name); }
  void touch(std::span<const Hash128> names) override { store_.touch(names); }
  bool read(const Hash128& name, std::span<std::byte> out) override {
    return store_.read(name, out);
  }
  bool write(const Hash128& name, std::span<const std::byte> in) override {
    return store_.write(name, in);
  }
  int64_t pages() const override { return store_.records(); }
  int64_t bytes() const override { return store_.bytes(); }

 private:
  platform::RecordStore store_;
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
                                                    const Hash128& identity) {
  auto disk = std::make_unique<RecordDisk>(platform::RecordStore::Options{
      .directory = directory, .max_bytes = max_bytes, .owner = identity});
  log::info("{}: {} pages, {} MiB of {} MiB", directory, disk->pages(), disk->bytes() >> 20,
            max_bytes >> 20);
  return disk;
}

}  // namespace tandem::cli
