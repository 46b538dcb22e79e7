// Attention of generating rows in one launch, against the single operators' rows and attention in
// double over them.
#include "kernels/cuda/decode_attention.h"

#include "tests/kernels/cuda/paged_batch.h"
#include "tests/kernels/cuda/weights.h"

namespace tandem::cuda {
namespace {

using testing::DeviceBatch;
using testing::DeviceVector;
using testing::from_half;
using testing::make_batch;
using testing::Oracle;
using testing::PagedBatch;
using testing::random_floats;
using testing::Request;

std::vector<float> as_floats(const std::vector<uint16_t>& bits, CacheType type) {
  std::vector<float> floats;
  for (const uint16_t half : bits) floats.push_back(from_half(half, type));
  return floats;
}

class DecodeAttention : public testing::DeviceTest {
 protected:
  struct Case {
    GqaShape shape;
    CacheType type;
    bool norms, interleaved;
  };

  // The last `padding` rows are nobody's.
  void check(const Case& c, const std::vector<int>& keys, int padding) {
    const GqaShape& s = c.shape;
    std::vector<Request> requests;
    for (const int count : keys) requests.push_back({1, count});
    const size_t rows = keys.size() + static_cast<size_t>(padding);
    const int pages = 4200 / s.page_size + 45;
    PagedBatch batch = make_batch(requests, s.page_size, pages, 3, rows);
    batch.slots.resize(rows, -1);
    DeviceBatch device(rows, batch.pages.size());
    device.assign(batch);
    const DeviceVector<int32_t> slots(batch.slots);
    const int tokens = static_cast<int>(rows);
    const auto width = static_cast<size_t>(s.heads * s.dim);
    const auto kv = static_cast<size_t>(s.kv_heads * s.dim), dim = static_cast<size_t>(s.dim);
    const DeviceVector<float> q(random_floats(rows * width, 4)), k(random_floats(rows * kv, 5)),
        v(random_floats(rows * kv, 6)), table(random_floats(rows * dim, 7, 0.5F)),
        q_norm(random_floats(dim, 8, 0.5F)), k_norm(random_floats(dim, 9, 0.5F));
    const KvCache form = grouped_cache(nullptr, s.page_size, s.kv_heads, s.dim, c.type);
    std::vector<uint16_t> filled;
    for (const float x : random_floats(static_cast<size_t>(form.page_stride * pages), 10)) {
      filled.push_back(testing::half_bits(x, c.type));
    }
    DeviceVector<uint16_t> single(filled), joined(filled), queries(rows * width);
    const auto params = [&](DeviceVector<uint16_t>& data) {
      return PrepareGqaParams{.q = {q.data(), static_cast<int64_t>(width)},
                              .k = {k.data(), static_cast<int64_t>(kv)},
                              .v = {v.data(), static_cast<int64_t>(kv)},
                              .q_norm = c.norms ? q_norm.data() : nullptr,
                              .k_norm = c.norms ? k_norm.data() : nullptr,
                              .epsilon = 1e-6F,
                              .rotation = {table.data(), s.dim, c.interleaved},
                              .slots = slots.data(),
                              .cache = grouped_cache(reinterpret_cast<std::byte*>(data.data()),
                                                     s.page_size, s.kv_heads, s.dim, c.type),
                              .queries = reinterpret_cast<std::byte*>(queries.data()),
                              .heads = s.heads,
                              .tokens = tokens};
    };
    prepare_gqa(params(single), stream());

    DeviceVector<float> out(rows * width), partial(decode_partial_bytes(s.dim) / sizeof(float));
    DeviceVector<__nv_bfloat16> rounded(out.size());
    DeviceVector<uint32_t> counters(rows * static_cast<size_t>(s.kv_heads));
    const float scale = 1.0F / std::sqrt(static_cast<float>(s.dim));
    const auto run = [&] {
      decode_gqa({.in = params(joined),
                  .page_starts = device.page_starts.data(),
                  .pages = device.pages.data(),
                  .last_page_keys = device.last_page_keys.data(),
                  .scratch = {partial.data(), counters.data()},
                  .scale = scale,
                  .out = out.data(),
                  .rounded = rounded.data()},
                 stream());
      return out.host();
    };
    const auto result = run();
    ASSERT_EQ(result, run());  // and the counters are zeros again
    ASSERT_EQ(joined.host(), single.host());

    const auto rotated = as_floats(queries.host(), c.type);
    const auto cached = as_floats(single.host(), c.type);
    const auto row = [&](size_t request, int key, int head, int64_t part) {
      const int page =
          batch.pages[static_cast<size_t>(batch.page_starts[request] + key / s.page_size)];
      return cached.data() + page * form.page_stride + part + head * form.head_stride +
             key % s.page_size * form.token_stride;
    };
    const Oracle oracle{s.heads, s.kv_heads, s.dim, s.dim, scale};
    const auto expected = oracle(
        batch, rotated, [&](size_t r, int key, int h) { return row(r, key, h, 0); },
        [&](size_t r, int key, int h) { return row(r, key, h, form.page_stride / 2); });
    // Weights are rounded to 16 bits before they meet the values, which are below 4.
    const double bound = 4.0 * (c.type == CacheType::kF16 ? 0x1.0p-11 : 0x1.0p-8);
    EXPECT_LT(testing::worst_difference(result, expected), bound)
        << s.heads << " heads for " << s.kv_heads << " of " << s.dim << ", " << keys.size()
        << " requests and " << padding;
    for (size_t i = keys.size() * width; i < result.size(); ++i) ASSERT_EQ(result[i], 0.0F);
    const auto halves = rounded.host(), for_products = testing::for_products(result);
    for (size_t i = 0; i < halves.size(); ++i) {
      ASSERT_EQ(__bfloat162float(halves[i]), __bfloat162float(for_products[i]));
    }
  }
};

TEST_F(DecodeAttention, MatchesTheDefinition) {
  const Case cases[] = {
      {{.heads = 32, .kv_heads = 4, .dim = 128, .page_size = 64}, CacheType::kF16, true, false},
      {{.heads = 32, .kv_heads = 4, .dim = 128, .page_size = 64}, CacheType::kBF16, true, true},
      {{.heads = 9, .kv_heads = 3, .dim = 64, .page_size = 32}, CacheType::kF16, false, true},
      {{.heads = 4, .kv_heads = 4, .dim = 128, .page_size = 16}, CacheType::kF16, false, false},
  };
  std::vector<int> many;
  for (int i = 0; i < 33; ++i) many.push_back(1 + i * 17 % 150);
  for (const Case& c : cases) {
    check(c, {1}, 0);
    check(c, {64}, 1);
    check(c, {65, 1, 16, 17, 200}, 3);
    check(c, {3000, 700}, 0);
    check(c, many, 7);
  }
}

TEST_F(DecodeAttention, SupportsGroupsOfEightAtMost) {
  EXPECT_TRUE(decode_supports({.heads = 32, .kv_heads = 4, .dim = 128, .page_size = 64}));
  EXPECT_FALSE(decode_supports({.heads = 64, .kv_heads = 4, .dim = 128, .page_size = 64}));
  EXPECT_FALSE(decode_supports({.heads = 8, .kv_heads = 2, .dim = 96, .page_size = 64}));
}

}  // namespace
}  // namespace tandem::cuda
