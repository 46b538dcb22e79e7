// Decoded blocks equal what the `gguf` Python package decodes (data/dequantize.bin, recorded by
// make_vectors.py) bit for bit.
#include <cstring>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "quant/reference.h"
#include "tests/golden.h"

namespace tandem::quant {
namespace {

struct Record {
  const TypeTraits* traits;
  std::string blocks;
  std::vector<float> first_block;
  std::vector<uint64_t> hashes;  // of each block's floats
};

class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}

  bool at_end() const { return offset_ == bytes_.size(); }

  void read(void* out, size_t size) {
    ASSERT_LE(offset_ + size, bytes_.size());
    std::memcpy(out, bytes_.data() + offset_, size);
    offset_ += size;
  }
  uint32_t read_u32() {
    uint32_t value = 0;
    read(&value, sizeof value);
    return value;
  }

 private:
  std::string bytes_;
  size_t offset_ = 0;
};

std::vector<Record> read_records() {
  Reader reader(
      testing::read_file(std::string(TANDEM_SOURCE_DIR) + "/tests/quant/data/dequantize.bin"));
  std::vector<Record> records;
  while (!reader.at_end() && !::testing::Test::HasFatalFailure()) {
    Record record;
    record.traits = find_traits(reader.read_u32());
    if (record.traits == nullptr) break;
    const size_t blocks = reader.read_u32();
    record.blocks.resize(blocks * reader.read_u32());
    record.first_block.resize(static_cast<size_t>(record.traits->block_elements));
    record.hashes.resize(blocks);
    reader.read(record.blocks.data(), record.blocks.size());
    reader.read(record.first_block.data(), record.first_block.size() * sizeof(float));
    reader.read(record.hashes.data(), blocks * sizeof(uint64_t));
    records.push_back(std::move(record));
  }
  return records;
}

uint64_t fnv1a(const float* values, size_t n) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values);
  for (size_t i = 0; i < n * sizeof(float); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return hash;
}

TEST(Dequantize, EqualsRecordedValuesBitForBit) {
  std::set<DType> seen;
  for (const Record& record : read_records()) {
    SCOPED_TRACE(record.traits->name);
    seen.insert(record.traits->dtype);
    const size_t elements = record.first_block.size();
    const size_t blocks = record.hashes.size();
    ASSERT_EQ(record.blocks.size(), blocks * static_cast<size_t>(record.traits->block_bytes));
    std::vector<float> values(blocks * elements);
    dequantize(record.traits->dtype, record.blocks.data(), values.data(),
               static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < elements; ++i) {
      ASSERT_EQ(std::memcmp(&values[i], &record.first_block[i], sizeof(float)), 0)
          << "element " << i << ": " << values[i] << " for " << record.first_block[i];
    }
    for (size_t b = 0; b < blocks; ++b) {
      ASSERT_EQ(fnv1a(&values[b * elements], elements), record.hashes[b]) << "block " << b;
    }
  }
  // Nothing supported was left out; float32 is what the others are compared in.
  for (uint32_t id = 0; id < kDTypeLimit; ++id) {
    const TypeTraits* traits = find_traits(id);
    if (traits == nullptr || !traits->supported || traits->dtype == DType::kF32) continue;
    EXPECT_TRUE(seen.contains(traits->dtype)) << traits->name << " has no recorded values";
  }
}

TEST(Dequantize, Float32IsCopied) {
  const std::vector<float> row = {1.5F, -0.0F, 1e-42F, 3e38F};
  std::vector<float> out(row.size());
  dequantize(DType::kF32, row.data(), out.data(), static_cast<int64_t>(row.size()));
  EXPECT_EQ(std::memcmp(out.data(), row.data(), row.size() * sizeof(float)), 0);
}

// Blocks have no alignment: a row may start at any byte.
TEST(Dequantize, ReadsUnalignedRows) {
  const std::vector<Record> records = read_records();
  ASSERT_FALSE(records.empty());
  for (const Record& record : records) {
    const std::string shifted = "x" + record.blocks;
    std::vector<float> values(record.first_block.size());
    dequantize(record.traits->dtype, shifted.data() + 1, values.data(),
               static_cast<int64_t>(values.size()));
    EXPECT_EQ(std::memcmp(values.data(), record.first_block.data(), values.size() * sizeof(float)),
              0)
        << record.traits->name;
  }
}

}  // namespace
}  // namespace tandem::quant
