// Records come back whole or not at all, whatever happened to their files, and stay within bounds.
#include "platform/record_store.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

namespace tandem::platform {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

constexpr size_t kLength = 20000;
constexpr int64_t kFileBytes = 4096 + kLength;
constexpr Hash128 kOwner{11, 12};

Hash128 name_of(uint64_t i) { return {i * 0x9e3779b97f4a7c15ULL, i}; }

Bytes contents_of(uint64_t i, size_t length = kLength) {
  Bytes bytes(length);
  std::mt19937_64 generator(i);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator());
  return bytes;
}

// The bool: side by side or not.
class RecordStoreTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("tandem-records-" + std::to_string(getpid()));
    fs::remove_all(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }

  RecordStore::Options options(int64_t records = 100) const {
    return {.directory = directory_.string(),
            .max_bytes = records * kFileBytes,
            .owner = kOwner,
            .side_by_side = GetParam()};
  }
  static bool put(RecordStore& store, uint64_t i) {
    return store.write(name_of(i), contents_of(i));
  }
  // Whether the record is there; if so its bytes must be right.
  static bool get(RecordStore& store, uint64_t i) {
    Bytes bytes(kLength);
    if (!store.read(name_of(i), bytes)) return false;
    EXPECT_EQ(bytes, contents_of(i)) << i;
    return true;
  }
  fs::path file_of(uint64_t i) const {
    const std::string hex = to_hex(name_of(i));
    return directory_ / "tandem-records" / hex.substr(0, 2) / (hex + ".rec");
  }
  // Lets damage(file) change the bytes of a record's file.
  template <typename Damage>
  void rewrite(uint64_t i, const Damage& damage) const {
    std::ifstream in(file_of(i), std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    damage(bytes);
    std::ofstream(file_of(i), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  fs::path directory_;
};

INSTANTIATE_TEST_SUITE_P(Io, RecordStoreTest, ::testing::Bool());

TEST_P(RecordStoreTest, KeepsRecordsOverARestart) {
  for (int round = 0; round < 3; ++round) {
    RecordStore store(options());
    for (uint64_t i = 1; i <= 5; ++i) {
      EXPECT_EQ(get(store, i), round > 0);
      EXPECT_TRUE(put(store, i));
      EXPECT_TRUE(get(store, i));
    }
    EXPECT_EQ(store.records(), 5);
    EXPECT_EQ(store.bytes(), 5 * kFileBytes);
    EXPECT_EQ(store.damaged(), 0);
  }
}

TEST_P(RecordStoreTest, LargeRecordsComeBackWhole) {
  RecordStore::Options large = options();
  large.max_bytes = 100 << 20;
  RecordStore store(large);
  // Around the size of a piece and of a batch of pieces.
  for (const size_t length : {size_t{1}, size_t{262144}, size_t{262145}, size_t{16} * 262144,
                              size_t{16} * 262144 + 1, size_t{10000000}}) {
    ASSERT_TRUE(store.write(name_of(length), contents_of(1, length)));
    Bytes bytes(length);
    ASSERT_TRUE(store.read(name_of(length), bytes)) << length;
    EXPECT_EQ(bytes, contents_of(1, length));
  }
}

TEST_P(RecordStoreTest, ADamagedFileIsAMissAndGoes) {
  RecordStore store(options());
  const auto expect_gone = [&](const char* what) {
    EXPECT_FALSE(get(store, 1)) << what;
    EXPECT_FALSE(store.has(name_of(1))) << what;
    EXPECT_FALSE(fs::exists(file_of(1))) << what;
    EXPECT_TRUE(put(store, 1));
    EXPECT_TRUE(get(store, 1)) << what;
  };
  put(store, 1);
  for (size_t at = 0; at < 72; ++at) {
    rewrite(1, [&](std::string& bytes) { bytes[at] ^= 1; });
    expect_gone("a bit of the header");
  }
  for (size_t at = 4096; at < 4096 + kLength; at += 997) {
    rewrite(1, [&](std::string& bytes) { bytes[at] ^= 0x40; });
    expect_gone("a bit of the contents");
  }
  for (const size_t length : {0, 1, 71, 72, 4096, 4097, 4096 + 19999}) {
    rewrite(1, [&](std::string& bytes) { bytes.resize(length); });
    expect_gone("cut off");
  }
  rewrite(1, [&](std::string& bytes) { std::fill(bytes.begin(), bytes.end(), '\0'); });
  expect_gone("zeros, as after a loss of power");
  put(store, 2);
  fs::copy_file(file_of(2), file_of(1), fs::copy_options::overwrite_existing);
  expect_gone("another record");
  fs::remove(file_of(1));
  expect_gone("removed by somebody");
  EXPECT_EQ(store.bytes(), 2 * kFileBytes);
}

TEST_P(RecordStoreTest, AnotherLengthOrOwnerIsAMiss) {
  {
    RecordStore store(options());
    put(store, 1);
    put(store, 2);
    Bytes longer(kLength + 1);
    EXPECT_FALSE(store.read(name_of(1), longer));
  }
  RecordStore::Options other = options();
  other.owner = {11, 13};
  RecordStore store(other);
  EXPECT_EQ(store.records(), 1) << "records of other owners count";
  EXPECT_FALSE(get(store, 2));
  EXPECT_EQ(store.damaged(), 1);
}

TEST_P(RecordStoreTest, WhatIsNoRecordIsRemovedFromItsFoldersOnly) {
  const fs::path ours = directory_ / "tandem-records" / "ab";
  fs::create_directories(ours);
  const fs::path left = ours / ("ab" + std::string(30, '0') + ".rec.part");
  const fs::path wrong_folder = ours / ("cd" + std::string(30, '0') + ".rec");
  const fs::path kept = directory_ / "tandem-records" / "notes.txt";
  const fs::path kept_too = directory_ / "photo.jpg";
  for (const fs::path& path : {left, ours / "x", wrong_folder, kept, kept_too}) {
    std::ofstream(path) << std::string(5000, 'x');
  }
  const RecordStore store(options());
  EXPECT_EQ(store.records(), 0);
  EXPECT_EQ(store.damaged(), 2) << "a write that was cut off is no damage";
  EXPECT_TRUE(fs::is_empty(ours));
  EXPECT_TRUE(fs::exists(kept) && fs::exists(kept_too));
}

TEST_P(RecordStoreTest, TheLongestUnusedGoesFirstAlsoAfterARestart) {
  {
    RecordStore store(options(4));
    for (uint64_t i = 1; i <= 4; ++i) {
      put(store, i);
      std::this_thread::sleep_for(std::chrono::milliseconds(15));  // the file system's clock
    }
    EXPECT_TRUE(get(store, 1));
    EXPECT_TRUE(put(store, 5));
    EXPECT_FALSE(store.has(name_of(2)));
    EXPECT_EQ(store.records(), 4);
  }
  RecordStore store(options(2));
  EXPECT_EQ(store.records(), 2) << "a smaller bound holds from the start";
  EXPECT_TRUE(get(store, 1) && get(store, 5));
  const Hash128 first = name_of(1);
  store.touch({&first, 1});
  put(store, 6);
  EXPECT_TRUE(get(store, 1) && get(store, 6));
  EXPECT_FALSE(store.write(name_of(9), Bytes(3 * kLength))) << "larger than all together may be";
}

TEST_P(RecordStoreTest, OneProcessADirectory) {
  const RecordStore store(options());
  EXPECT_THROW(RecordStore second(options()), Error);
  RecordStore::Options nowhere = options();
  nowhere.directory = "/proc/nowhere";
  EXPECT_THROW(RecordStore third(nowhere), Error);
}

TEST_P(RecordStoreTest, AFullDiskIsAFailedWriteAndNoMore) {
  RecordStore store(options());
  put(store, 1);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = kLength / 2, .rlim_max = before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_FALSE(put(store, 2));
  EXPECT_FALSE(put(store, 3));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(store.records(), 1);
  EXPECT_FALSE(fs::exists(file_of(2)) || fs::exists(file_of(2).string() + ".part"));
  EXPECT_TRUE(get(store, 1));
  EXPECT_TRUE(put(store, 2) && get(store, 2));
}

// A process that writes without end is killed at random moments.
TEST_P(RecordStoreTest, SurvivesBeingKilled) {
  std::mt19937 generator(1);
  int64_t found = 0;
  for (uint64_t round = 0; round < 25; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RecordStore store(options(40));
      for (uint64_t i = 0;; ++i) store.write(name_of(i % 60), contents_of(i % 60));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(generator() % 20000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    RecordStore store(options(40));
    EXPECT_LE(store.bytes(), 40 * kFileBytes);
    for (uint64_t i = 0; i < 60; ++i) found += get(store, i);
    EXPECT_EQ(store.damaged(), 0) << "no file was seen half-written";
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace tandem::platform
