// Good files are read as they are; every kind of bad file ends in one Error.
#include "gguf/file.h"

#include <functional>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/gguf/writer.h"
#include "tests/golden.h"

namespace tandem::gguf {
namespace {

// Two entries and one float tensor [2, 3].
Writer good_file() {
  Writer w;
  w.header(1, 2).u32("a.count", 7).text("a.name").put<uint32_t>(8).text("tiny");
  w.tensor("x.weight", {3, 2}, 0, 0).pad();
  for (int i = 0; i < 6; ++i) w.put(static_cast<float>(i));
  return w;
}

class GgufFile : public ::testing::Test {
 protected:
  std::unique_ptr<File> open(const std::string& bytes) {
    return File::open(folder_.write("m.gguf", bytes));
  }
  TempFolder folder_;
};

TEST_F(GgufFile, ReadsMetadataAndTensors) {
  const auto file = open(good_file().bytes());
  EXPECT_EQ(file->version(), 3U);
  EXPECT_EQ(file->get_u64("a.count"), 7U);
  EXPECT_EQ(file->get_f64("a.count"), 7.0);
  EXPECT_EQ(file->get_string("a.name"), "tiny");
  EXPECT_EQ(file->get_u64_or("missing", 5), 5U);
  EXPECT_THROW(file->get_u64("missing"), Error);
  EXPECT_THROW(file->get_u64("a.name"), Error);
  EXPECT_THROW(file->get_bool_or("a.count", true), Error);
  const TensorInfo* x = file->find_tensor("x.weight");
  ASSERT_NE(x, nullptr);
  EXPECT_EQ(x->tensor.shape, shape(2, 3));
  EXPECT_EQ(x->tensor.f32()[5], 5.0F);
  EXPECT_EQ(file->find_tensor("y"), nullptr);
}

TEST_F(GgufFile, EveryTruncationIsRefused) {
  const std::string bytes = good_file().bytes();
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THROW(open(bytes.substr(0, length)), Error) << length;
  }
  EXPECT_NO_THROW(open(bytes));
}

TEST_F(GgufFile, EveryFlippedByteIsReadOrRefused) {
  const std::string bytes = good_file().bytes();
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string broken = bytes;
      broken[i] = static_cast<char>(broken[i] ^ flip);
      try {
        open(broken);
      } catch (const Error&) {
      }
    }
  }
}

struct BadFile {
  const char* name;
  std::function<void(Writer&)> write;
};

class BadGguf : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadGguf, IsRefusedInOneLine) {
  const TempFolder folder;
  Writer w;
  GetParam().write(w);
  try {
    File::open(folder.write("bad.gguf", w.bytes()));
    FAIL() << "was accepted";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("bad.gguf"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

// A tensor of 3 x 2 floats with its data, after one change.
void tensor_file(Writer& w, const std::function<void(Writer&)>& tensor, size_t data_bytes = 64) {
  w.header(1, 0);
  tensor(w);
  w.pad().zeros(data_bytes);
}

const BadFile kBadFiles[] = {
    {"empty", [](Writer&) {}},
    {"magic", [](Writer& w) { w.put<uint32_t>(0x46464747).put<uint32_t>(3).zeros(64); }},
    {"version_0", [](Writer& w) { w.header(0, 0, 0).zeros(64); }},
    {"version_1", [](Writer& w) { w.header(0, 0, 1).zeros(64); }},
    {"version_future", [](Writer& w) { w.header(0, 0, 4).zeros(64); }},
    {"big_endian", [](Writer& w) { w.header(0, 0, 0x03000000).zeros(64); }},
    {"too_many_tensors", [](Writer& w) { w.header(UINT64_MAX, 0).zeros(64); }},
    {"too_many_entries", [](Writer& w) { w.header(0, UINT64_MAX / 2).zeros(64); }},
    {"key_too_long", [](Writer& w) { w.header(0, 1).put<uint64_t>(UINT64_MAX).zeros(64); }},
    {"key_empty", [](Writer& w) { w.header(0, 1).text("").put<uint32_t>(4).put<uint32_t>(1); }},
    {"value_type", [](Writer& w) { w.header(0, 1).text("k").put<uint32_t>(13).zeros(16); }},
    {"array_type",
     [](Writer& w) {
       w.header(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(99).put<uint64_t>(1).zeros(16);
     }},
    {"array_of_arrays",
     [](Writer& w) {
       w.header(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(9).put<uint64_t>(1).zeros(32);
     }},
    {"array_too_long",
     [](Writer& w) {
       w.header(0, 1)
           .text("k")
           .put<uint32_t>(9)
           .put<uint32_t>(4)
           .put<uint64_t>(UINT64_MAX / 2)
           .zeros(16);
     }},
    {"string_too_long",
     [](Writer& w) { w.header(0, 1).text("k").put<uint32_t>(8).put<uint64_t>(1 << 30).zeros(16); }},
    {"boolean",
     [](Writer& w) { w.header(0, 1).text("k").put<uint32_t>(7).put<uint8_t>(2).zeros(16); }},
    {"key_twice", [](Writer& w) { w.header(0, 2).u32("k", 1).u32("k", 2); }},
    {"alignment_value", [](Writer& w) { w.header(0, 1).u32("general.alignment", 13); }},
    {"alignment_zero", [](Writer& w) { w.header(0, 1).u32("general.alignment", 0); }},
    {"alignment_type",
     [](Writer& w) {
       w.header(0, 1).text("general.alignment").put<uint32_t>(10).put<uint64_t>(32);
     }},
    {"name_empty",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("", {3, 2}, 0, 0);
                     }); }},
    {"name_too_long",
     [](Writer& w) {
       tensor_file(w, [](Writer& t) { t.tensor(std::string(300, 'x'), {3, 2}, 0, 0); });
     }},
    {"no_dimensions",
     [](Writer& w) { tensor_file(w, [](Writer& t) { t.tensor("x", {}, 0, 0); }); }},
    {"five_dimensions",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {1, 1, 1, 1, 1}, 0, 0);
                     }); }},
    {"zero_dimension",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {3, 0}, 0, 0);
                     }); }},
    {"negative_dimension",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {3, UINT64_MAX}, 0, 0);
                     }); }},
    {"elements_overflow",
     [](Writer& w) {
       tensor_file(w, [](Writer& t) { t.tensor("x", {1ULL << 32, 1ULL << 32}, 0, 0); });
     }},
    {"bytes_overflow",
     [](Writer& w) {
       tensor_file(w, [](Writer& t) { t.tensor("x", {1ULL << 31, 1ULL << 31}, 0, 0); });
     }},
    {"tensor_type",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {3, 2}, 77, 0);
                     }); }},
    {"removed_type",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {32, 2}, 4, 0);
                     }); }},
    {"row_not_whole_blocks",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {33, 2}, 2, 0);
                     }); }},
    {"offset_misaligned",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {3, 2}, 0, 4);
                     }); }},
    {"offset_beyond",
     [](Writer& w) { tensor_file(w, [](Writer& t) {
                       t.tensor("x", {3, 2}, 0, 1 << 20);
                     }); }},
    {"offset_overflow",
     [](Writer& w) {
       tensor_file(w, [](Writer& t) { t.tensor("x", {3, 2}, 0, UINT64_MAX - 31); });
     }},
    {"data_too_short",
     [](Writer& w) {
       tensor_file(
           w,
           [](Writer& t) {
             t.tensor("x", {3, 2}, 0, 0);
           },
           20);
     }},
    {"tensor_twice",
     [](Writer& w) {
       w.header(2, 0).tensor("x", {3, 2}, 0, 0).tensor("x", {3, 2}, 0, 32).pad().zeros(64);
     }},
};
INSTANTIATE_TEST_SUITE_P(Kinds, BadGguf, ::testing::ValuesIn(kBadFiles),
                         [](const auto& kind) { return std::string(kind.param.name); });

// Part `index` of `count`, with one tensor.
std::string part(uint64_t index, uint64_t count, const std::string& tensor) {
  Writer w;
  w.header(1, 3);
  w.text("split.no").put<uint32_t>(2).put<uint16_t>(static_cast<uint16_t>(index));
  w.text("split.count").put<uint32_t>(2).put<uint16_t>(static_cast<uint16_t>(count));
  w.text("split.tensors.count").put<uint32_t>(5).put<int32_t>(static_cast<int32_t>(count));
  w.tensor(tensor, {8}, 0, 0).pad().zeros(32);
  return w.bytes();
}

TEST(SplitGguf, PartsAreJoinedFromAnyOfThemOrTheFolder) {
  const TempFolder folder;
  folder.write("m-00001-of-00002.gguf", part(0, 2, "a"));
  const std::string second = folder.write("m-00002-of-00002.gguf", part(1, 2, "b"));
  for (const std::string& path : {second, folder.path()}) {
    const auto file = File::open(path);
    EXPECT_EQ(file->tensors().size(), 2U);
    ASSERT_NE(file->find_tensor("b"), nullptr);
    EXPECT_EQ(file->find_tensor("b")->file_index, 1);
  }
}

TEST(SplitGguf, FaultsAreNamed) {
  const TempFolder folder;
  const std::string first = folder.write("m-00001-of-00002.gguf", part(0, 2, "a"));
  EXPECT_THROW(File::open(first), Error);  // the second part is missing
  folder.write("m-00002-of-00002.gguf", part(1, 2, "a"));
  EXPECT_THROW(File::open(first), Error);  // a tensor in both
  folder.write("m-00002-of-00002.gguf", part(0, 2, "b"));
  EXPECT_THROW(File::open(first), Error);  // wrong number
  folder.write("m-00002-of-00002.gguf", part(1, 3, "b"));
  EXPECT_THROW(File::open(first), Error);  // wrong count
  EXPECT_THROW(File::open(folder.write("alone.gguf", part(0, 2, "a"))),
               Error);  // a part under another name
}

TEST(GgufFolder, MustHoldOneModel) {
  const TempFolder folder;
  EXPECT_THROW(File::open(folder.path()), Error);
  folder.write("a.gguf", good_file().bytes());
  EXPECT_NO_THROW(File::open(folder.path()));
  folder.write("b.gguf", good_file().bytes());
  EXPECT_THROW(File::open(folder.path()), Error);
  EXPECT_THROW(File::open(folder.path() + "/missing.gguf"), Error);
}

TEST(RealFiles, QuantisedModelsAreReadWhole) {
  for (const char* name :
       {"quant/Q4_K_M.gguf", "quant/MXFP4_MOE.gguf", "vocab/ggml-vocab-qwen2.gguf"}) {
    const std::string path = testing::golden_path(name);
    if (path.empty()) {
      std::printf("[ SKIPPED  ] %s is not beside the checkout\n", name);
      continue;
    }
    const auto file = File::open(path);
    EXPECT_FALSE(file->metadata().empty());
    EXPECT_NE(file->find_array("tokenizer.ggml.tokens"), nullptr);
  }
}

}  // namespace
}  // namespace tandem::gguf
