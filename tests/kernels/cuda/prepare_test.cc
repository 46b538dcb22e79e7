// The joined kernels in front of attention give the bits of one operator after the other: the norm
// on the device, the rotation by the CPU's table, rounding and storing here.
#include "kernels/cuda/prepare.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cuda/norm.h"
#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/paged_batch.h"

namespace tandem::cuda {
namespace {

using testing::DeviceVector;
using testing::random_floats;

constexpr int kTokens = 5, kPageSize = 32, kPages = 4;

class Prepare : public testing::DeviceTest {
 protected:
  static std::byte* bytes(const DeviceVector<uint16_t>& vector) {
    return reinterpret_cast<std::byte*>(vector.data());
  }
  static std::vector<int32_t> slots() { return {3, 127, -1, 64, 65}; }

  // The first columns of each head of x, [T, heads, *].
  void rotate(float* x, int64_t token_stride, int64_t head_stride, int heads,
              const std::vector<float>& table, int dims, bool interleaved) const {
    for (int64_t t = 0; t < kTokens; ++t) {
      cpu_.rope({.x = x + t * token_stride,
                 .head_stride = head_stride,
                 .heads = heads,
                 .dims = dims,
                 .interleaved = interleaved,
                 .table = table.data() + t * dims});
    }
  }
  static std::vector<uint16_t> halves(const std::vector<float>& x, CacheType type) {
    std::vector<uint16_t> out;
    for (const float value : x) out.push_back(testing::half_bits(value, type));
    return out;
  }
  // Rows [T, Hk, dim] at their slots of keys or, `values`, of values.
  static void store(const std::vector<float>& x, const KvCache& cache, bool values,
                    std::vector<uint16_t>& memory) {
    const int64_t row = int64_t{cache.kv_heads} * cache.dim;
    for (int64_t t = 0; t < kTokens; ++t) {
      const int32_t slot = slots()[static_cast<size_t>(t)];
      if (slot < 0) continue;
      for (int64_t i = 0; i < row; ++i) {
        const int64_t head = i / cache.dim, column = i % cache.dim;
        const int64_t at = slot / cache.page_size * cache.page_stride + head * cache.head_stride +
                           slot % cache.page_size * cache.token_stride + column +
                           (values ? cache.page_stride / 2 : 0);
        memory[static_cast<size_t>(at)] =
            testing::half_bits(x[static_cast<size_t>(t * row + i)], cache.type);
      }
    }
  }

  const cpu::Table& cpu_ = cpu::select();
};

TEST_F(Prepare, GroupedQueries) {
  const DeviceVector<int32_t> slots(this->slots());
  const int heads = 6, kv_heads = 2;
  for (const int dim : {64, 128}) {
    for (const bool norms : {false, true}) {
      for (const bool interleaved : {false, true}) {
        const int rope_dims = norms ? dim : dim / 2;
        const CacheType type = interleaved ? CacheType::kBF16 : CacheType::kF16;
        const int64_t q_width = heads * dim, kv_width = kv_heads * dim;
        DeviceVector<float> q(random_floats(kTokens * q_width, 1));
        DeviceVector<float> k(random_floats(kTokens * kv_width, 2));
        DeviceVector<float> v(random_floats(kTokens * kv_width, 3));
        DeviceVector<float> q_norm(random_floats(dim, 4)), k_norm(random_floats(dim, 5));
        const auto table = random_floats(kTokens * rope_dims, 6);
        const DeviceVector<float> device_table(table);
        const KvCache layout = grouped_cache(nullptr, kPageSize, kv_heads, dim, type);
        EXPECT_EQ(page_bytes(layout), 2 * 2 * kPageSize * kv_width);
        std::vector<uint16_t> single(static_cast<size_t>(page_bytes(layout) * kPages / 2));
        DeviceVector<uint16_t> joined(single.size()), joined_q(q.size());
        prepare_gqa({.q = {q.data(), q_width},
                     .k = {k.data(), kv_width},
                     .v = {v.data(), kv_width},
                     .q_norm = norms ? q_norm.data() : nullptr,
                     .k_norm = norms ? k_norm.data() : nullptr,
                     .epsilon = 1e-6F,
                     .rotation = {device_table.data(), rope_dims, interleaved},
                     .slots = slots.data(),
                     .cache = grouped_cache(bytes(joined), kPageSize, kv_heads, dim, type),
                     .queries = bytes(joined_q),
                     .heads = heads,
                     .tokens = kTokens},
                    stream());

        const auto step = [&](const DeviceVector<float>& x, const DeviceVector<float>& norm,
                              int count) {
          if (norms) {
            rms_norm({.x = {x.data(), dim},
                      .addend = {nullptr, 0},
                      .weight = norm.data(),
                      .y = {x.data(), dim},
                      .n = dim,
                      .rows = kTokens * count,
                      .epsilon = 1e-6F},
                     stream());
          }
          std::vector<float> out = x.host();
          rotate(out.data(), count * dim, dim, count, table, rope_dims, interleaved);
          return out;
        };
        store(step(k, k_norm, kv_heads), layout, false, single);
        store(v.host(), layout, true, single);
        EXPECT_EQ(joined.host(), single) << dim << norms << interleaved;
        EXPECT_EQ(joined_q.host(), halves(step(q, q_norm, heads), type))
            << dim << norms << interleaved;
      }
    }
  }
}

TEST_F(Prepare, LatentRowsAndQueries) {
  const DeviceVector<int32_t> slots(this->slots());
  const int latent = 512, rope_dims = 64, width = latent + rope_dims, heads = 5;
  for (const CacheType type : {CacheType::kF16, CacheType::kBF16}) {
    DeviceVector<float> rows(random_floats(kTokens * width, 1));
    DeviceVector<float> norm(random_floats(latent, 2));
    const auto table = random_floats(kTokens * rope_dims, 3);
    auto q = random_floats(static_cast<size_t>(kTokens * heads * 192), 4);
    auto absorbed = random_floats(static_cast<size_t>(kTokens * heads * width), 5);
    const DeviceVector<float> device_table(table), device_q(q), device_absorbed(absorbed);
    const KvCache layout = latent_cache(nullptr, kPageSize, width, type);
    std::vector<uint16_t> single(static_cast<size_t>(page_bytes(layout) * kPages / 2));
    DeviceVector<uint16_t> joined(single.size()), joined_q(absorbed.size());
    const Rotation rotation = {device_table.data(), rope_dims, true};
    prepare_latent({.store = {.rows = {rows.data(), width},
                              .norm = norm.data(),
                              .epsilon = 1e-6F,
                              .rotation = rotation,
                              .slots = slots.data(),
                              .cache = latent_cache(bytes(joined), kPageSize, width, type),
                              .tokens = kTokens},
                    .queries = {.latent = device_absorbed.data(),
                                .latent_token_stride = heads * width,
                                .latent_head_stride = width,
                                .rope = device_q.data() + 128,
                                .rope_token_stride = heads * 192,
                                .rope_head_stride = 192,
                                .rotation = rotation,
                                .queries = bytes(joined_q),
                                .type = type,
                                .heads = heads,
                                .tokens = kTokens}},
                   stream());

    rms_norm({.x = {rows.data(), width},
              .addend = {nullptr, 0},
              .weight = norm.data(),
              .y = {rows.data(), width},
              .n = latent,
              .rows = kTokens,
              .epsilon = 1e-6F},
             stream());
    std::vector<float> stored = rows.host();
    rotate(stored.data() + latent, width, 0, 1, table, rope_dims, true);
    store(stored, layout, false, single);
    rotate(q.data() + 128, heads * 192, 192, heads, table, rope_dims, true);
    for (size_t head = 0; head < size_t{kTokens} * heads; ++head) {
      std::copy_n(q.begin() + static_cast<std::ptrdiff_t>(head * 192 + 128), rope_dims,
                  absorbed.begin() + static_cast<std::ptrdiff_t>(head * width + latent));
    }
    EXPECT_EQ(joined.host(), single);
    EXPECT_EQ(joined_q.host(), halves(absorbed, type));
  }
}

}  // namespace
}  // namespace tandem::cuda
