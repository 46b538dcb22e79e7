// Reads of files, and reservations of addresses.
#include "platform/mapped_file.h"

#include <filesystem>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "platform/reservation.h"

namespace tandem::platform {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / ("tandem-mapped-" + std::to_string(getpid()));
    std::ofstream file(path_, std::ios::binary);
    for (int i = 0; i < 100000; ++i) file.put(static_cast<char>(i % 251));
  }
  void TearDown() override { fs::remove(path_); }
  fs::path path_;
};

TEST_F(MappedFileTest, ReadsWhatIsMapped) {
  MappedFile first(path_.string());
  const MappedFile file = std::move(first);
  ASSERT_EQ(file.bytes().size(), 100000U);
  for (const size_t offset : {0, 1, 4095, 4097, 99990}) {
    std::vector<std::byte> out(std::min<size_t>(10000, 100000 - offset));
    file.read(offset, out);
    EXPECT_TRUE(std::equal(out.begin(), out.end(), file.bytes().begin() + offset)) << offset;
  }
}

TEST_F(MappedFileTest, SaysWhatIsWrong) {
  EXPECT_THROW(MappedFile(path_.string() + ".none"), Error);
  const MappedFile file(path_.string());
  std::vector<std::byte> out(100);
  EXPECT_THROW(file.read(99950, out), Error);
  fs::resize_file(path_, 1000);
  try {
    file.read(50000, out);
    FAIL() << "a shortened file was read";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos) << error.what();
  }
}

TEST(Reservation, MoreThanThereIsMemory) {
  Reservation large(int64_t{1} << 40);
  Reservation moved = std::move(large);
  ASSERT_NE(moved.data(), nullptr);
  EXPECT_EQ(large.data(), nullptr);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(moved.data()) % (2 << 20), 0U);
  moved.data()[0] = std::byte{1};
  moved.data()[moved.bytes() - 1] = std::byte{2};
  EXPECT_EQ(moved.data()[1 << 20], std::byte{0});
  EXPECT_THROW(Reservation(int64_t{1} << 60), Error);
  EXPECT_EQ(Reservation(0).data(), nullptr);
}

}  // namespace
}  // namespace tandem::platform
