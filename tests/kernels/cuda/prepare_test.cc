// The joined kernels in front of attention give the bits of the single ones.
#include "kernels/cuda/prepare.h"

#include "kernels/cuda/norm.h"
#include "kernels/cuda/rope.h"
#include "tests/kernels/cuda/device.h"

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
        DeviceVector<float> table(random_floats(kTokens * rope_dims, 6));
        const auto cache_elements = static_cast<size_t>(
            page_bytes(grouped_cache(nullptr, kPageSize, kv_heads, dim, type)) * kPages / 2);
        DeviceVector<uint16_t> joined(cache_elements), single(cache_elements);
        DeviceVector<uint16_t> joined_q(q.size()), single_q(q.size());
        prepare_gqa({.q = {q.data(), q_width},
                     .k = {k.data(), kv_width},
                     .v = {v.data(), kv_width},
                     .q_norm = norms ? q_norm.data() : nullptr,
                     .k_norm = norms ? k_norm.data() : nullptr,
                     .epsilon = 1e-6F,
                     .rotation = {table.data(), rope_dims, interleaved},
                     .slots = slots.data(),
                     .cache = grouped_cache(bytes(joined), kPageSize, kv_heads, dim, type),
                     .queries = bytes(joined_q),
                     .heads = heads,
                     .tokens = kTokens},
                    stream());

        const auto step = [&](DeviceVector<float>& x, const DeviceVector<float>& norm, int count) {
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
          rope({.x = x.data(),
                .token_stride = count * dim,
                .head_stride = dim,
                .table = table.data(),
                .dims = rope_dims,
                .interleaved = interleaved,
                .heads = count,
                .tokens = kTokens},
               stream());
        };
        step(q, q_norm, heads);
        step(k, k_norm, kv_heads);
        append_kv({.keys = k.data(),
                   .key_stride = kv_width,
                   .values = v.data(),
                   .value_stride = kv_width,
                   .slots = slots.data(),
                   .cache = grouped_cache(bytes(single), kPageSize, kv_heads, dim, type),
                   .tokens = kTokens},
                  stream());
        to_halves({.x = q.data(),
                   .x_stride = q_width,
                   .out = bytes(single_q),
                   .n = q_width,
                   .rows = kTokens,
                   .type = type},
                  stream());
        EXPECT_EQ(joined.host(), single.host()) << dim << norms << interleaved;
        EXPECT_EQ(joined_q.host(), single_q.host()) << dim << norms << interleaved;
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
    DeviceVector<float> table(random_floats(kTokens * rope_dims, 3));
    DeviceVector<float> q(random_floats(static_cast<size_t>(kTokens * heads * 192), 4));
    DeviceVector<float> absorbed(random_floats(static_cast<size_t>(kTokens * heads * width), 5));
    const size_t cache_elements = size_t{kPages} * kPageSize * width;
    DeviceVector<uint16_t> joined(cache_elements), single(cache_elements);
    DeviceVector<uint16_t> joined_q(absorbed.size()), single_q(absorbed.size());
    const Rotation rotation = {table.data(), rope_dims, true};
    prepare_latent({.store = {.rows = {rows.data(), width},
                              .norm = norm.data(),
                              .epsilon = 1e-6F,
                              .rotation = rotation,
                              .slots = slots.data(),
                              .cache = latent_cache(bytes(joined), kPageSize, width, type),
                              .tokens = kTokens},
                    .queries = {.latent = absorbed.data(),
                                .latent_token_stride = heads * width,
                                .latent_head_stride = width,
                                .rope = q.data() + 128,
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
    const auto rotate = [&](float* x, int64_t token_stride, int64_t head_stride, int count) {
      rope({.x = x,
            .token_stride = token_stride,
            .head_stride = head_stride,
            .table = table.data(),
            .dims = rope_dims,
            .interleaved = true,
            .heads = count,
            .tokens = kTokens},
           stream());
    };
    rotate(rows.data() + latent, width, 0, 1);
    rotate(q.data() + 128, heads * 192, 192, heads);
    copy_columns({.from = q.data() + 128,
                  .from_token_stride = heads * 192,
                  .from_head_stride = 192,
                  .to = absorbed.data() + latent,
                  .to_token_stride = heads * width,
                  .to_head_stride = width,
                  .width = rope_dims,
                  .heads = heads,
                  .tokens = kTokens},
                 stream());
    append_kv({.keys = rows.data(),
               .key_stride = width,
               .values = nullptr,
               .value_stride = 0,
               .slots = slots.data(),
               .cache = latent_cache(bytes(single), kPageSize, width, type),
               .tokens = kTokens},
              stream());
    to_halves({.x = absorbed.data(),
               .x_stride = heads * width,
               .out = bytes(single_q),
               .n = heads * width,
               .rows = kTokens,
               .type = type},
              stream());
    EXPECT_EQ(joined.host(), single.host());
    EXPECT_EQ(joined_q.host(), single_q.host());
  }
}

}  // namespace
}  // namespace tandem::cuda
