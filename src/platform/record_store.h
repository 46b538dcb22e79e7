// Records of bytes by name in a directory: checksummed, bounded, the longest unused given up first.
// It survives the end of the process at any moment, and takes nothing that it finds on trust.
//
//   DIRECTORY/tandem-records/lock              held by the process that uses it
//   DIRECTORY/tandem-records/5e/5e08...c1.rec  one file for each record, named by it
//
//   file:  | magic | version | owner | name | length | hash of contents | hash of these | 0 ...
//          0                                                                             4096
//          | contents ...
//
// One file for a record, not one for many: records are pages of a megabyte or more, so a file more
// or less costs nothing beside them; giving one up returns its room at once, without moving others;
// and a rename makes a record appear whole or not at all. A file is written under another name
// first; it need not reach the disk before it is renamed, for the hash tells when it did not.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>

#include "base/hash128.h"
#include "platform/file_io.h"

namespace tandem::platform {

class RecordStore {
 public:
  struct Options {
    std::string directory;
    int64_t max_bytes;         // of all files together
    Hash128 owner;             // of records that are read; others count, and age, but never match
    bool side_by_side = true;  // FileIo
  };

  // Takes the directory, which is made where it is missing, and lists what is there. Throws Error
  // when that is impossible or another process has it.
  explicit RecordStore(const Options& options);
  ~RecordStore();
  RecordStore(const RecordStore&) = delete;
  RecordStore& operator=(const RecordStore&) = delete;

  // What a record of that length takes on disk.
  static int64_t file_bytes(int64_t length);

  // Any thread.
  bool has(const Hash128& name) const;
  void touch(std::span<const Hash128> names);
  int64_t records() const;
  int64_t bytes() const;
  int64_t damaged() const;  // files removed because they were not what their name said

  // One thread at a time. read: false when there is no such record; one that is damaged, of
  // another length or another owner's is removed, and `out` means nothing. write: false when it
  // could not be kept.
  bool read(const Hash128& name, std::span<std::byte> out);
  bool write(const Hash128& name, std::span<const std::byte> in);

 private:
  struct Record {
    Hash128 name;
    int64_t on_disk;  // bytes
  };
  using Records = std::list<Record>;  // the last used first

  void open_directory();
  void list_records();
  std::string path_of(const Hash128& name) const;
  bool read_file(const Hash128& name, std::span<std::byte> out);
  bool write_file(const std::string& path, const Hash128& name, std::span<const std::byte> in);
  void add(const Hash128& name, int64_t on_disk);
  void remove(const Hash128& name);
  // Gives up records until there is room for so many bytes.
  void make_room(int64_t needed);
  void report_failed_write(const std::string& path);

  const Options options_;
  const std::string root_;
  int lock_ = -1;  // descriptor
  FileIo io_;
  int64_t failed_writes_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  Records by_use_;
  std::unordered_map<Hash128, Records::iterator, Hash128Hasher> records_;
  int64_t bytes_ = 0;
  int64_t damaged_ = 0;
};

}  // namespace tandem::platform
