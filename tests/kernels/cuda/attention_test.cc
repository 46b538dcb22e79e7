// Paged attention against attention in double over the same 16-bit cache; graphs captured once and
// replayed with other requests against launches without a graph.
#include "kernels/cuda/attention.h"

#include "tests/kernels/cuda/paged_batch.h"
#include "tests/kernels/cuda/weights.h"

namespace tandem::cuda {
namespace {

using testing::DeviceBatch;
using testing::DeviceVector;
using testing::make_batch;
using testing::Oracle;
using testing::OwnedMemory;
using testing::PagedBatch;
using testing::random_floats;
using testing::Request;
using testing::round_to_halves;
using testing::worst_difference;

constexpr CacheType kTypes[] = {CacheType::kF16, CacheType::kBF16};

// Weights are rounded to 16 bits before they meet the values, a relative error of half a unit of
// 2^-11 or 2^-8 each; latent attention rounds partial results and outputs too, which are below the
// largest value. Random values are below 3.5.
double tolerance(CacheType type, int roundings) {
  return roundings * 3.5 * (type == CacheType::kF16 ? 0x1.0p-11 : 0x1.0p-8);
}

class Attention : public testing::DeviceTest {
 protected:
  // The rows that further products read are the outputs, rounded.
  static void expect_for_products(const std::vector<__nv_bfloat16>& rows,
                                  const std::vector<float>& outputs) {
    const auto expected = testing::for_products(outputs);
    int different = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      different += __bfloat162float(rows[i]) != __bfloat162float(expected[i]);
    }
    EXPECT_EQ(different, 0);
  }

  // A cache of random rounded values, and its host copy as floats in the same order.
  struct Filled {
    DeviceVector<uint16_t> data;
    std::vector<float> host;
  };
  static Filled fill_cache(int64_t elements, CacheType type, uint32_t seed) {
    std::vector<float> values = random_floats(static_cast<size_t>(elements), seed);
    std::vector<uint16_t> bits(values.size());
    for (size_t i = 0; i < values.size(); ++i) bits[i] = testing::half_bits(values[i], type);
    round_to_halves(values, type);
    return {DeviceVector<uint16_t>(bits), std::move(values)};
  }
};

// Mixed steps: whole prompts, chunks with a past, decodes, single keys, page boundaries.
const std::vector<std::vector<Request>> kSteps = {
    {{1, 1}},
    {{1, 700}, {1, 64}, {1, 65}, {1, 1}, {1, 2000}},
    {{5, 5}, {17, 300}, {1, 63}, {130, 130}},
    {{1, 3000}},
    {{65, 400}},
};

// --- grouped-query attention ---

struct GqaCase {
  GqaShape shape;
  CacheType type;
};

class GqaAttention : public Attention {
 protected:
  static constexpr int kPages = 300;

  // Random queries, rounded, and what a plan of the step gives.
  void check_step(const GqaCase& c, const std::vector<Request>& requests) {
    const GqaShape& s = c.shape;
    const PagedBatch batch = make_batch(requests, s.page_size, kPages, 5);
    const auto count = static_cast<int>(requests.size());
    KvCache cache = grouped_cache(nullptr, s.page_size, s.kv_heads, s.dim, c.type);
    const Filled filled = fill_cache(cache.page_stride * kPages, c.type, 6);
    cache = grouped_cache(reinterpret_cast<std::byte*>(filled.data.data()), s.page_size, s.kv_heads,
                          s.dim, c.type);
    std::vector<float> q = random_floats(static_cast<size_t>(batch.tokens) * s.heads * s.dim, 7);
    round_to_halves(q, c.type);
    DeviceVector<float> device_q(q), out(q.size());
    DeviceVector<__nv_bfloat16> rounded(q.size());
    DeviceBatch device(batch.keys.size(), batch.pages.size());
    device.assign(batch);

    const AttentionSizes sizes = gqa_sizes(s, batch.tokens, count, PlanFor::kLaunch);
    OwnedMemory memory(sizes);
    const float scale = 1.0F / std::sqrt(static_cast<float>(s.dim));
    const GqaPlan plan =
        plan_gqa(s, batch.view(), PlanFor::kLaunch, sizes, memory.view(), stream());
    gqa_attention({.shape = s,
                   .plan = plan,
                   .memory = memory.view(),
                   .cache = cache,
                   .q = device_q.data(),
                   .out = out.data(),
                   .token_starts = device.token_starts.data(),
                   .page_starts = device.page_starts.data(),
                   .pages = device.pages.data(),
                   .last_page_keys = device.last_page_keys.data(),
                   .requests = count,
                   .tokens = batch.tokens,
                   .scale = scale,
                   .rounded = rounded.data()},
                  stream());
    expect_for_products(rounded.host(), out.host());
    const int64_t to_values = cache.page_stride / 2;
    const auto row = [&](size_t request, int key, int head, int64_t part) {
      const int page =
          batch.pages[static_cast<size_t>(batch.page_starts[request] + key / s.page_size)];
      return filled.host.data() + page * cache.page_stride + part + head * cache.head_stride +
             key % s.page_size * cache.token_stride;
    };
    const Oracle oracle{s.heads, s.kv_heads, s.dim, s.dim, scale};
    const auto expected = oracle(
        batch, q, [&](size_t r, int k, int h) { return row(r, k, h, 0); },
        [&](size_t r, int k, int h) { return row(r, k, h, to_values); });
    EXPECT_LT(worst_difference(out.host(), expected), tolerance(c.type, 1))
        << s.heads << " heads for " << s.kv_heads << " of " << s.dim << ", " << count
        << " requests";
  }
};

TEST_F(GqaAttention, MatchesTheDefinition) {
  const GqaShape shapes[] = {
      {.heads = 32, .kv_heads = 4, .dim = 128, .page_size = 64},
      {.heads = 9, .kv_heads = 3, .dim = 64, .page_size = 32},
      {.heads = 4, .kv_heads = 4, .dim = 128, .page_size = 16},
      {.heads = 20, .kv_heads = 1, .dim = 64, .page_size = 64},
  };
  for (const GqaShape& shape : shapes) {
    for (const CacheType type : kTypes) {
      for (const auto& step : kSteps) check_step({shape, type}, step);
    }
  }
}

// --- latent attention ---

struct MlaFixture {
  MlaFixture(MlaShape s, CacheType t, int tokens, int total_pages)
      : shape(s), type(t), sizes(mla_sizes(s, tokens)), memory(sizes), pages(total_pages) {}
  MlaShape shape;
  CacheType type;
  AttentionSizes sizes;
  OwnedMemory memory;
  int pages;
};

class MlaAttention : public Attention {
 protected:
  static constexpr int kRow = kLatentDim + kLatentRope;
  static constexpr int kPages = 300;
  static constexpr float kScale = 0.0721688F;  // 1 / sqrt(192)

  std::vector<MlaForm> forms() const {
    std::vector<MlaForm> result = {MlaForm::kAmpere};
    const bool hopper = platform::find_gpus().list.at(0).compute == 90;
    if (hopper && has_mla_hopper()) result.push_back(MlaForm::kHopper);
    return result;
  }

  void check_step(const MlaShape& s, CacheType type, const std::vector<Request>& requests) {
    const PagedBatch batch = make_batch(requests, s.page_size, kPages, 5);
    const Filled filled = fill_cache(int64_t{kPages} * s.page_size * kRow, type, 6);
    const KvCache cache =
        latent_cache(reinterpret_cast<std::byte*>(filled.data.data()), s.page_size, kRow, type);
    // Queries of the absorbed form are longer than the plain head's: small ones keep scores as
    // spread as real ones.
    std::vector<float> q =
        random_floats(static_cast<size_t>(batch.tokens) * s.heads * kRow, 7, 0.5F);
    round_to_halves(q, type);
    DeviceVector<float> device_q(q), out(static_cast<size_t>(batch.tokens) * s.heads * kLatentDim);
    DeviceVector<__nv_bfloat16> rounded(out.size());
    DeviceVector<int32_t> pages(batch.pages);
    const AttentionSizes sizes = mla_sizes(s, batch.tokens);
    OwnedMemory memory(sizes);
    const MlaPlan plan = plan_mla(s, batch.view(), sizes, memory.view(), stream());
    const auto row = [&](size_t request, int key, int) {
      const int page =
          batch.pages[static_cast<size_t>(batch.page_starts[request] + key / s.page_size)];
      return filled.host.data() + (int64_t{page} * s.page_size + key % s.page_size) * kRow;
    };
    const Oracle oracle{s.heads, 1, kRow, kLatentDim, kScale};
    const auto expected = oracle(batch, q, row, row);
    for (const MlaForm form : forms()) {
      mla_attention({.shape = s,
                     .plan = plan,
                     .form = form,
                     .memory = memory.view(),
                     .cache = cache,
                     .q = device_q.data(),
                     .out = out.data(),
                     .pages = pages.data(),
                     .tokens = batch.tokens,
                     .scale = kScale,
                     .rounded = rounded.data()},
                    stream());
      expect_for_products(rounded.host(), out.host());
      EXPECT_LT(worst_difference(out.host(), expected), tolerance(type, 3))
          << s.heads << " heads, " << requests.size() << " requests, form "
          << static_cast<int>(form);
    }
  }
};

TEST_F(MlaAttention, MatchesTheDefinition) {
  for (const CacheType type : kTypes) {
    for (const auto& step : kSteps) check_step({.heads = 16, .page_size = 64}, type, step);
    check_step({.heads = 128, .page_size = 64}, type, kSteps[1]);
    check_step({.heads = 20, .page_size = 32}, type, kSteps[2]);
  }
}

TEST(MlaForm, IsHoppersWhereThereIsSuchADevice) {
  for (const int compute : {80, 86, 89, 100, 120}) {
    EXPECT_EQ(mla_form(compute), MlaForm::kAmpere) << compute;
  }
  EXPECT_EQ(mla_form(90), has_mla_hopper() ? MlaForm::kHopper : MlaForm::kAmpere);
}

// --- sizes ---

// Every plan of any step fits the sizes that were given for the largest one: the library throws
// otherwise.
TEST_F(Attention, PlansFitTheirSizes) {
  std::mt19937 bits(1);
  const auto below = [&](int limit) {
    return static_cast<int>(bits() % static_cast<uint32_t>(limit));
  };
  constexpr int kTokens = 2048, kRequests = 48;
  for (const GqaShape& s : {GqaShape{32, 4, 128, 64}, GqaShape{8, 8, 64, 16},
                            GqaShape{64, 8, 128, 32}, GqaShape{9, 3, 64, 64}}) {
    const AttentionSizes sizes = gqa_sizes(s, kTokens, kRequests, PlanFor::kLaunch);
    const MlaShape latent = {.heads = s.heads, .page_size = s.page_size};
    const AttentionSizes latent_sizes = mla_sizes(latent, kTokens);
    OwnedMemory memory(sizes), latent_memory(latent_sizes);
    for (int round = 0; round < 60; ++round) {
      std::vector<Request> requests;
      int left = kTokens;
      const int count = 1 + below(kRequests);
      for (int i = 0; i < count && left > 0; ++i) {
        const int tokens = below(3) == 0 ? 1 + below(left) : 1;
        requests.push_back({tokens, tokens + below(below(2) == 0 ? 50 : 8000)});
        left -= tokens;
      }
      const PagedBatch batch = make_batch(requests, s.page_size, 1 << 16, 1);
      const GqaPlan plan =
          plan_gqa(s, batch.view(), PlanFor::kLaunch, sizes, memory.view(), stream());
      const MlaPlan latent_plan =
          plan_mla(latent, batch.view(), latent_sizes, latent_memory.view(), stream());
      EXPECT_FALSE(plan == GqaPlan{} || latent_plan == MlaPlan{});
      synchronize();
    }
    const AttentionBatch none = {};
    EXPECT_TRUE(plan_gqa(s, none, PlanFor::kLaunch, sizes, memory.view(), stream()) == GqaPlan{});
    EXPECT_TRUE(plan_mla(latent, none, latent_sizes, latent_memory.view(), stream()) == MlaPlan{});
  }
}

// --- graphs with a varying batch ---

const size_t kBatches[] = {16, 1, 2, 3, 5, 8, 13, 15, 16};

std::vector<Request> random_decodes(size_t count, uint32_t seed) {
  std::mt19937 bits(seed);
  std::vector<Request> requests;
  for (size_t i = 0; i < count; ++i) {
    requests.push_back({1, 1 + static_cast<int>(bits() % 1000)});
  }
  return requests;
}

TEST_F(GqaAttention, ReplaysEqualLaunchesForEveryBatch) {
  constexpr int kMax = 16;
  const GqaShape s = {.heads = 32, .kv_heads = 4, .dim = 128, .page_size = 64};
  const AttentionSizes sizes = gqa_sizes(s, kMax, kMax, PlanFor::kGraph);
  OwnedMemory memory(sizes);
  KvCache cache = grouped_cache(nullptr, s.page_size, s.kv_heads, s.dim, CacheType::kF16);
  const Filled filled = fill_cache(cache.page_stride * kPages, CacheType::kF16, 6);
  cache = grouped_cache(reinterpret_cast<std::byte*>(filled.data.data()), s.page_size, s.kv_heads,
                        s.dim, CacheType::kF16);
  DeviceVector<float> q(random_floats(size_t{kMax} * s.heads * s.dim, 8)), out(q.size());
  DeviceBatch device(kMax, kPages);
  const auto attend = [&](const GqaPlan& plan, cudaStream_t on) {
    gqa_attention({.shape = s,
                   .plan = plan,
                   .memory = memory.view(),
                   .cache = cache,
                   .q = q.data(),
                   .out = out.data(),
                   .token_starts = device.token_starts.data(),
                   .page_starts = device.page_starts.data(),
                   .pages = device.pages.data(),
                   .last_page_keys = device.last_page_keys.data(),
                   .requests = kMax,
                   .tokens = kMax,
                   .scale = 0.0883883F},
                  on);
  };
  GqaPlan captured;
  platform::cuda::Graph graph;
  uint32_t seed = 0;
  for (const size_t count : kBatches) {
    ++seed;
    const PagedBatch batch =
        make_batch(random_decodes(count, seed), s.page_size, kPages, seed, kMax);
    device.assign(batch);
    const GqaPlan plan = plan_gqa(s, batch.view(), PlanFor::kGraph, sizes, memory.view(), stream());
    if (!graph) {
      captured = plan;
      graph = platform::cuda::Graph::capture(stream_owner(),
                                             [&](cudaStream_t on) { attend(plan, on); });
    }
    EXPECT_TRUE(plan == captured) << count << " requests";
    const std::vector<float> blank(out.size(), 7.0F);
    out.assign(blank);
    attend(plan, stream());
    const auto launched = out.host();
    out.assign(blank);
    graph.launch(stream());
    synchronize();
    EXPECT_EQ(out.host(), launched) << count << " requests";
    // Rows of no request stay as they were.
    const size_t used = count * static_cast<size_t>(s.heads * s.dim);
    EXPECT_EQ(std::count(launched.begin() + static_cast<ptrdiff_t>(used), launched.end(), 7.0F),
              static_cast<ptrdiff_t>(out.size() - used));
  }
}

TEST_F(MlaAttention, ReplaysEqualLaunchesForEveryBatch) {
  constexpr int kMax = 16;
  for (const int heads : {16, 128}) {
    const MlaShape s = {.heads = heads, .page_size = 64};
    const AttentionSizes sizes = mla_sizes(s, kMax);
    OwnedMemory memory(sizes);
    const Filled filled = fill_cache(int64_t{kPages} * s.page_size * kRow, CacheType::kF16, 6);
    const KvCache cache = latent_cache(reinterpret_cast<std::byte*>(filled.data.data()),
                                       s.page_size, kRow, CacheType::kF16);
    DeviceVector<float> q(random_floats(size_t{kMax} * s.heads * kRow, 8, 0.5F));
    DeviceVector<float> out(size_t{kMax} * s.heads * kLatentDim);
    DeviceVector<int32_t> pages(kPages);
    for (const MlaForm form : forms()) {
      const auto attend = [&](const MlaPlan& plan, cudaStream_t on) {
        mla_attention({.shape = s,
                       .plan = plan,
                       .form = form,
                       .memory = memory.view(),
                       .cache = cache,
                       .q = q.data(),
                       .out = out.data(),
                       .pages = pages.data(),
                       .tokens = kMax,
                       .scale = kScale},
                      on);
      };
      MlaPlan captured;
      platform::cuda::Graph graph;
      uint32_t seed = 0;
      for (const size_t count : kBatches) {
        ++seed;
        const PagedBatch batch = make_batch(random_decodes(count, seed), s.page_size, kPages, seed);
        pages.assign(batch.pages);
        const MlaPlan plan = plan_mla(s, batch.view(), sizes, memory.view(), stream());
        if (!graph) {
          captured = plan;
          graph = platform::cuda::Graph::capture(stream_owner(),
                                                 [&](cudaStream_t on) { attend(plan, on); });
        }
        EXPECT_TRUE(plan == captured) << count << " requests, " << heads << " heads";
        attend(plan, stream());
        synchronize();
        auto launched = out.host();
        out.assign(std::vector<float>(out.size(), 7.0F));
        graph.launch(stream());
        synchronize();
        auto replayed = out.host();
        const size_t used = count * static_cast<size_t>(heads * kLatentDim);
        launched.resize(used), replayed.resize(used);
        EXPECT_EQ(replayed, launched) << count << " requests, " << heads << " heads";
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cuda
