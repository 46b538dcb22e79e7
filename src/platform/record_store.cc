// Listing, reading, writing, giving up.
#include "platform/record_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/log.h"

namespace tandem::platform {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".rec";
constexpr std::string_view kUnfinished = ".part";
constexpr uint32_t kVersion = 1;
constexpr std::array<char, 8> kMagic = {'T', 'A', 'N', 'D', 'E', 'M', 'R', 'C'};

struct Header {
  std::array<char, 8> magic = kMagic;
  uint64_t version = kVersion;
  Hash128 owner;
  Hash128 name;
  uint64_t length = 0;
  uint64_t contents_hash = 0;
  uint64_t header_hash = 0;  // of all before it

  uint64_t hash() const { return XXH3_64bits(this, offsetof(Header, header_hash)); }
};
static_assert(sizeof(Header) == 72, "the header is written as it lies in memory");

// Contents begin where blocks of disks and pages of memory do.
constexpr size_t kHeaderBytes = 4096;
static_assert(sizeof(Header) <= kHeaderBytes);

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : value_(open(path.c_str(), flags, 0600)) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  explicit operator bool() const { return value_ >= 0; }
  int get() const { return value_; }

 private:
  const int value_;
};

std::optional<Hash128> parse_name(std::string_view file) {
  constexpr size_t kDigits = 32;
  if (file.size() != kDigits + kEnding.size() || !file.ends_with(kEnding)) return std::nullopt;
  const auto half = [&](size_t at, uint64_t& value) {
    const char* end = file.data() + at + kDigits / 2;
    return std::from_chars(file.data() + at, end, value, 16).ptr == end;
  };
  Hash128 name;
  if (!half(0, name.high) || !half(kDigits / 2, name.low)) return std::nullopt;
  return name;
}

bool is_folder_of_records(const std::string& name) {
  return name.size() == 2 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

RecordStore::RecordStore(const Options& options)
    : options_(options), root_(options.directory + "/tandem-records"), io_(options.side_by_side) {
  open_directory();
  try {
    list_records();
  } catch (const fs::filesystem_error& error) {
    close(lock_);
    throw Error("{}: cannot be listed: {}", root_, error.code().message());
  }
  make_room(0);
}

RecordStore::~RecordStore() { close(lock_); }

void RecordStore::open_directory() {
  std::error_code error;
  fs::create_directories(root_, error);
  if (error) throw Error("{}: cannot be made: {}", root_, error.message());
  // What is in a record may tell what somebody wrote.
  fs::permissions(root_, fs::perms::owner_all, error);
  const std::string path = root_ + "/lock";
  lock_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock_ < 0) throw Error("{}: cannot be opened: {}", path, std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    throw Error("{}: is in use by another process; give each its own directory", root_);
  }
}

// Everything in the folders of records is ours: what is no record there is removed, so are
// leftovers of writes that were cut off. Nothing else in the directory is touched.
void RecordStore::list_records() {
  struct Found {
    fs::file_time_type time;
    Record record;
  };
  std::vector<Found> found;
  for (const fs::directory_entry& folder : fs::directory_iterator(root_)) {
    const std::string folder_name = folder.path().filename().string();
    if (!is_folder_of_records(folder_name) || !folder.is_directory()) continue;
    for (const fs::directory_entry& file : fs::directory_iterator(folder.path())) {
      const std::optional<Hash128> name = parse_name(file.path().filename().string());
      std::error_code unknown;
      const auto size = static_cast<int64_t>(file.file_size(unknown));
      const auto time = file.last_write_time(unknown);
      if (name && !unknown && size > static_cast<int64_t>(kHeaderBytes) &&
          to_hex(*name).starts_with(folder_name)) {
        found.push_back({time, {*name, size}});
      } else {
        damaged_ += !file.path().string().ends_with(kUnfinished);
        fs::remove(file.path(), unknown);
      }
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.time < b.time; });
  for (const Found& file : found) add(file.record.name, file.record.on_disk);
}

int64_t RecordStore::file_bytes(int64_t length) {
  return static_cast<int64_t>(kHeaderBytes) + length;
}

std::string RecordStore::path_of(const Hash128& name) const {
  const std::string hex = to_hex(name);
  return fmt::format("{}/{}/{}{}", root_, hex.substr(0, 2), hex, kEnding);
}

bool RecordStore::has(const Hash128& name) const {
  const std::lock_guard lock(mutex_);
  return records_.contains(name);
}

void RecordStore::touch(std::span<const Hash128> names) {
  const std::lock_guard lock(mutex_);
  for (const Hash128& name : names) {
    const auto found = records_.find(name);
    if (found != records_.end()) by_use_.splice(by_use_.begin(), by_use_, found->second);
  }
}

int64_t RecordStore::records() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(records_.size());
}

int64_t RecordStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

int64_t RecordStore::damaged() const {
  const std::lock_guard lock(mutex_);
  return damaged_;
}

void RecordStore::add(const Hash128& name, int64_t on_disk) {
  const std::lock_guard lock(mutex_);
  by_use_.push_front({name, on_disk});
  records_[name] = by_use_.begin();
  bytes_ += on_disk;
}

void RecordStore::remove(const Hash128& name) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = records_.find(name);
    if (found == records_.end()) return;
    bytes_ -= found->second->on_disk;
    by_use_.erase(found->second);
    records_.erase(found);
  }
  unlink(path_of(name).c_str());
}

void RecordStore::make_room(int64_t needed) {
  for (;;) {
    Hash128 oldest;
    {
      const std::lock_guard lock(mutex_);
      if (by_use_.empty() || bytes_ + needed <= options_.max_bytes) return;
      oldest = by_use_.back().name;
    }
    remove(oldest);
  }
}

bool RecordStore::read(const Hash128& name, std::span<std::byte> out) {
  if (!has(name)) return false;
  if (read_file(name, out)) {
    touch({&name, 1});
    return true;
  }
  remove(name);
  const std::lock_guard lock(mutex_);
  ++damaged_;
  return false;
}

bool RecordStore::read_file(const Hash128& name, std::span<std::byte> out) {
  const Descriptor file(path_of(name), O_RDONLY | O_CLOEXEC);
  if (!file) return false;
  Header header;
  if (!io_.read(file.get(), 0, std::as_writable_bytes(std::span(&header, 1)))) return false;
  if (header.magic != kMagic || header.version != kVersion || header.header_hash != header.hash() ||
      header.owner != options_.owner || header.name != name || header.length != out.size() ||
      !io_.read(file.get(), kHeaderBytes, out) ||
      XXH3_64bits(out.data(), out.size()) != header.contents_hash) {
    return false;
  }
  futimens(file.get(), nullptr);  // the order of use outlives the process
  return true;
}

bool RecordStore::write(const Hash128& name, std::span<const std::byte> in) {
  if (has(name)) return true;
  const int64_t needed = file_bytes(static_cast<int64_t>(in.size()));
  if (needed > options_.max_bytes) return false;
  make_room(needed);
  const std::string path = path_of(name);
  if (!write_file(path, name, in)) {
    report_failed_write(path);
    return false;
  }
  add(name, needed);
  return true;
}

bool RecordStore::write_file(const std::string& path, const Hash128& name,
                             std::span<const std::byte> in) {
  std::error_code error;
  fs::create_directory(fs::path(path).parent_path(), error);
  const std::string unfinished = path + std::string(kUnfinished);
  Header header{.owner = options_.owner,
                .name = name,
                .length = in.size(),
                .contents_hash = XXH3_64bits(in.data(), in.size())};
  header.header_hash = header.hash();
  std::array<std::byte, kHeaderBytes> head{};
  std::memcpy(head.data(), &header, sizeof header);
  const Descriptor file(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
  if (file && io_.write(file.get(), 0, head) && io_.write(file.get(), kHeaderBytes, in) &&
      rename(unfinished.c_str(), path.c_str()) == 0) {
    return true;
  }
  const int reason = errno;
  unlink(unfinished.c_str());
  errno = reason;
  return false;
}

// At the first, second, fourth ... failure: a full disk fails at every page.
void RecordStore::report_failed_write(const std::string& path) {
  const int reason = errno;
  ++failed_writes_;
  if ((failed_writes_ & (failed_writes_ - 1)) != 0) return;
  log::warn("{}: cannot be written: {} ({} times so far); records are lost", path,
            std::strerror(reason), failed_writes_);
}

}  // namespace tandem::platform
