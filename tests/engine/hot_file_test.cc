// Counts of hot experts in a file: what was written is read, what is not of this form is refused.
#include "engine/hot_file.h"

#include <cstdio>
#include <fstream>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tandem::engine {
namespace {

class HotFile : public ::testing::Test {
 protected:
  ~HotFile() override { std::remove(path_.c_str()); }
  void write(const char* text) const { std::ofstream(path_) << text; }
  std::string refusal() const {
    try {
      read_hot_file(path_, std::vector<int>{1}, 2);
    } catch (const Error& error) {
      return error.what();
    }
    return "not refused";
  }

  std::string path_ = ::testing::TempDir() + "hot_file_test.json";
};

TEST_F(HotFile, GivesBackWhatWasWritten) {
  EXPECT_EQ(read_hot_file(path_, std::vector<int>{1, 2}, 2).counts, std::vector<double>(4));
  write_hot_file(path_, {.layers = {1, 3}, .experts = 2, .counts = {1, 0, 2.5, 1e6}});
  EXPECT_EQ(read_hot_file(path_, std::vector<int>{1, 3}, 2).counts,
            (std::vector<double>{1, 0, 2.5, 1e6}));
  // By the layer's number: other layers may be in host memory this time.
  EXPECT_EQ(read_hot_file(path_, std::vector<int>{2, 3}, 2).counts,
            (std::vector<double>{0, 0, 2.5, 1e6}));
}

TEST_F(HotFile, RefusesWhatItIsNot) {
  write("{");
  EXPECT_NE(refusal().find("delete it to begin without"), std::string::npos);
  write("[]");
  EXPECT_NE(refusal().find("it is no object"), std::string::npos);
  write(R"({"layers": {}})");
  EXPECT_NE(refusal().find("\"experts\" is missing"), std::string::npos);
  write(R"({"experts": 8, "layers": {}})");
  EXPECT_NE(refusal().find("of another model"), std::string::npos);
  write(R"({"experts": 2, "layers": {"1": [1]}})");
  EXPECT_NE(refusal().find("layer 1 is no list of 2 numbers"), std::string::npos);
  write(R"({"experts": 2, "layers": {"1": [1, -1]}})");
  EXPECT_NE(refusal().find("expert 1 of layer 1 has no count"), std::string::npos);
  write(R"({"experts": 2, "layers": {}})");
  EXPECT_EQ(refusal(), "not refused");
}

TEST_F(HotFile, SaysWhereItCannotBeWritten) {
  EXPECT_THROW(write_hot_file("/proc/none/hot.json", {.layers = {}, .experts = 2, .counts = {}}),
               Error);
}

}  // namespace
}  // namespace tandem::engine
