// The traits table against the sizes that the GGUF specification gives.
#include "quant/types.h"

#include <gtest/gtest.h>

namespace tandem::quant {
namespace {

TEST(Types, SizesAreThoseOfTheFileFormat) {
  struct Expected {
    uint32_t id;
    const char* name;
    int elements;
    int bytes;
  };
  const Expected kExpected[] = {
      {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
      {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
      {8, "Q8_0", 32, 34},      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
      {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},
      {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98},
      {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},
      {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},
      {25, "I16", 1, 2},        {26, "I32", 1, 4},        {27, "I64", 1, 8},
      {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},
      {39, "MXFP4", 32, 17},
  };
  for (const Expected& expected : kExpected) {
    const TypeTraits* found = find_traits(expected.id);
    ASSERT_NE(found, nullptr) << expected.name;
    EXPECT_EQ(static_cast<uint32_t>(found->dtype), expected.id);
    EXPECT_EQ(found->name, expected.name);
    EXPECT_EQ(found->block_elements, expected.elements) << expected.name;
    EXPECT_EQ(found->block_bytes, expected.bytes) << expected.name;
    EXPECT_EQ(parse_dtype(expected.name), found->dtype);
    EXPECT_EQ(&traits(found->dtype), found);
  }
}

TEST(Types, RemovedAndUnknownIdsHaveNoTraits) {
  for (const uint32_t id : {4U, 5U, 9U, 15U, 31U, 32U, 33U, 36U, 37U, 38U, 40U, 1000U, ~0U}) {
    EXPECT_EQ(find_traits(id), nullptr) << id;
  }
  EXPECT_EQ(parse_dtype("Q9_K"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
}

TEST(Types, IntegersAndDoublesAreNoWeights) {
  for (const DType dtype : {DType::kI8, DType::kI16, DType::kI32, DType::kI64, DType::kF64}) {
    EXPECT_FALSE(traits(dtype).supported) << traits(dtype).name;
  }
}

TEST(Types, ActivationFormatFollowsTheBlock) {
  for (uint32_t id = 0; id < kDTypeLimit; ++id) {
    const TypeTraits* found = find_traits(id);
    if (found == nullptr) continue;
    EXPECT_EQ(found->activation, found->block_elements == 256  ? ActivationFormat::kA256
                                 : found->block_elements == 32 ? ActivationFormat::kA32
                                                               : ActivationFormat::kF32);
  }
}

TEST(Types, RowBytes) {
  EXPECT_EQ(row_bytes(DType::kQ4_K, 7168), 28 * 144);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 2880), 90 * 17);
  EXPECT_EQ(row_bytes(DType::kBF16, 37), 74);
  EXPECT_EQ(row_bytes(DType::kF32, int64_t{1} << 40), int64_t{4} << 40);
  EXPECT_DEATH(row_bytes(DType::kQ4_K, 128), "128 elements in rows of Q4_K");
}

}  // namespace
}  // namespace tandem::quant
