// How long decode attention takes, printed; run with --gtest_also_run_disabled_tests.
#include <chrono>
#include <cstdio>

#include "kernels/cuda/norm.h"
#include "tests/kernels/cuda/paged_batch.h"

namespace tandem::cuda {
namespace {

using testing::DeviceBatch;
using testing::DeviceVector;
using testing::make_batch;
using testing::OwnedMemory;
using testing::PagedBatch;
using testing::Request;

class AttentionSpeed : public testing::DeviceTest {
 protected:
  // Microseconds of one launch, in a graph of many.
  template <typename Attend>
  double time(const Attend& attend, int repeats = 200) {
    using platform::cuda::Event;
    const auto graph = platform::cuda::Graph::capture(stream_owner(), [&](cudaStream_t on) {
      for (int i = 0; i < repeats; ++i) attend(on);
    });
    graph.launch(stream());
    const Event begin(Event::Timing::kOn), end(Event::Timing::kOn);
    begin.record(stream());
    graph.launch(stream());
    end.record(stream());
    end.synchronize();
    return end.since(begin) * 1000.0 / repeats;
  }
};

TEST_F(AttentionSpeed, DISABLED_Decode) {
  const int page_size = 64;
  for (const int keys : {512, 4096}) {
    for (const int count : {1, 4, 8, 32}) {
      const std::vector<Request> requests(static_cast<size_t>(count), Request{1, keys});
      const int total_pages = count * (keys / page_size);
      const PagedBatch batch = make_batch(requests, page_size, total_pages, 1);
      DeviceBatch device(requests.size(), batch.pages.size());
      device.assign(batch);
      std::printf("%5d keys %3d requests:", keys, count);
      for (const int heads : {16, 128}) {
        const MlaShape s = {.heads = heads, .page_size = page_size};
        const AttentionSizes sizes = mla_sizes(s, count);
        OwnedMemory memory(sizes);
        const MlaPlan plan = plan_mla(s, batch.view(), sizes, memory.view(), stream());
        DeviceVector<uint16_t> data(static_cast<size_t>(total_pages) * page_size * 576);
        DeviceVector<float> out(static_cast<size_t>(count) * heads * kLatentDim);
        for (const MlaForm form : {MlaForm::kAmpere, MlaForm::kHopper}) {
          if (form == MlaForm::kHopper && platform::find_gpus().list[0].compute != 90) continue;
          std::printf("  mla %d form %d %6.1f us", heads, static_cast<int>(form),
                      time([&](cudaStream_t on) {
                        mla_attention(
                            {.shape = s,
                             .plan = plan,
                             .form = form,
                             .memory = memory.view(),
                             .cache = latent_cache(reinterpret_cast<std::byte*>(data.data()),
                                                   page_size, 576, CacheType::kF16),
                             .q = nullptr,
                             .out = out.data(),
                             .pages = device.pages.data(),
                             .tokens = count,
                             .scale = 0.07F},
                            on);
                      }));
        }
      }
      for (const GqaShape& s : {GqaShape{32, 4, 128, page_size}, GqaShape{64, 8, 128, page_size}}) {
        const AttentionSizes sizes = gqa_sizes(s, count, count, PlanFor::kGraph);
        OwnedMemory memory(sizes);
        const GqaPlan plan =
            plan_gqa(s, batch.view(), PlanFor::kGraph, sizes, memory.view(), stream());
        DeviceVector<uint16_t> data(static_cast<size_t>(total_pages) * page_size * 2 *
                                    static_cast<size_t>(s.kv_heads * s.dim));
        DeviceVector<float> out(static_cast<size_t>(count * s.heads * s.dim));
        std::printf("  gqa %d/%d %6.1f us", s.heads, s.kv_heads, time([&](cudaStream_t on) {
                      gqa_attention(
                          {.shape = s,
                           .plan = plan,
                           .memory = memory.view(),
                           .cache = grouped_cache(reinterpret_cast<std::byte*>(data.data()),
                                                  page_size, s.kv_heads, s.dim, CacheType::kF16),
                           .q = nullptr,
                           .out = out.data(),
                           .token_starts = device.token_starts.data(),
                           .page_starts = device.page_starts.data(),
                           .pages = device.pages.data(),
                           .last_page_keys = device.last_page_keys.data(),
                           .requests = count,
                           .tokens = count,
                           .scale = 0.09F},
                          on);
                    }));
      }
      std::printf("\n");
    }
  }
}

// A whole prompt; the products that attention takes, without masked ones, beside the time.
TEST_F(AttentionSpeed, DISABLED_Prompt) {
  const int page_size = 64, tokens = 4096;
  const PagedBatch batch = make_batch({{tokens, tokens}}, page_size, tokens / page_size, 1);
  DeviceBatch device(1, batch.pages.size());
  device.assign(batch);
  const double pairs = 0.5 * tokens * (tokens + 1.0);
  for (const int heads : {16, 128}) {
    const MlaShape s = {.heads = heads, .page_size = page_size};
    const AttentionSizes sizes = mla_sizes(s, tokens);
    OwnedMemory memory(sizes);
    const MlaPlan plan = plan_mla(s, batch.view(), sizes, memory.view(), stream());
    DeviceVector<uint16_t> data(size_t{tokens} * 576);
    DeviceVector<float> out(size_t{tokens} * static_cast<size_t>(heads) * kLatentDim);
    for (const MlaForm form : {MlaForm::kAmpere, MlaForm::kHopper}) {
      if (form == MlaForm::kHopper && platform::find_gpus().list[0].compute != 90) continue;
      const double us = time(
          [&](cudaStream_t on) {
            mla_attention({.shape = s,
                           .plan = plan,
                           .form = form,
                           .memory = memory.view(),
                           .cache = latent_cache(reinterpret_cast<std::byte*>(data.data()),
                                                 page_size, 576, CacheType::kF16),
                           .q = nullptr,
                           .out = out.data(),
                           .pages = device.pages.data(),
                           .tokens = tokens,
                           .scale = 0.07F},
                          on);
          },
          5);
      std::printf("latent, %d heads, form %d: %.0f us, %.0f TFLOP/s\n", heads,
                  static_cast<int>(form), us, pairs * heads * 2.0 * (576 + 512) / us * 1e-6);
    }
  }
  for (const GqaShape& s : {GqaShape{32, 4, 128, page_size}, GqaShape{32, 8, 64, page_size}}) {
    const AttentionSizes sizes = gqa_sizes(s, tokens, 1, PlanFor::kLaunch);
    OwnedMemory memory(sizes);
    const GqaPlan plan =
        plan_gqa(s, batch.view(), PlanFor::kLaunch, sizes, memory.view(), stream());
    DeviceVector<uint16_t> data(size_t{tokens} * 2 * static_cast<size_t>(s.kv_heads * s.dim));
    DeviceVector<float> out(size_t{tokens} * static_cast<size_t>(s.heads * s.dim));
    const double us = time(
        [&](cudaStream_t on) {
          gqa_attention({.shape = s,
                         .plan = plan,
                         .memory = memory.view(),
                         .cache = grouped_cache(reinterpret_cast<std::byte*>(data.data()),
                                                page_size, s.kv_heads, s.dim, CacheType::kF16),
                         .q = nullptr,
                         .out = out.data(),
                         .token_starts = device.token_starts.data(),
                         .page_starts = device.page_starts.data(),
                         .pages = device.pages.data(),
                         .last_page_keys = device.last_page_keys.data(),
                         .requests = 1,
                         .tokens = tokens,
                         .scale = 0.09F},
                        on);
        },
        20);
    std::printf("grouped, %d heads of %d for %d: %.0f us, %.0f TFLOP/s\n", s.heads, s.dim,
                s.kv_heads, us, pairs * s.heads * 4.0 * s.dim / us * 1e-6);
  }
}

// What a plan costs on the host, its copy enqueued.
TEST_F(AttentionSpeed, DISABLED_Planning) {
  for (const int count : {1, 8, 64}) {
    const std::vector<Request> requests(static_cast<size_t>(count), Request{1, 4000});
    const PagedBatch batch = make_batch(requests, 64, count * 63, 1);
    const MlaShape latent = {.heads = 16, .page_size = 64};
    const GqaShape grouped = {32, 4, 128, 64};
    const AttentionSizes latent_sizes = mla_sizes(latent, count);
    const AttentionSizes grouped_sizes = gqa_sizes(grouped, count, count, PlanFor::kGraph);
    OwnedMemory latent_memory(latent_sizes), grouped_memory(grouped_sizes);
    const auto mean = [&](const auto& plan) {
      constexpr int kPlans = 200;
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kPlans; ++i) plan();
      const std::chrono::duration<double, std::micro> taken =
          std::chrono::steady_clock::now() - start;
      synchronize();
      return taken.count() / kPlans;
    };
    std::printf("%d requests: plan latent %.1f us, grouped %.1f us\n", count, mean([&] {
                  plan_mla(latent, batch.view(), latent_sizes, latent_memory.view(), stream());
                }),
                mean([&] {
                  plan_gqa(grouped, batch.view(), PlanFor::kGraph, grouped_sizes,
                           grouped_memory.view(), stream());
                }));
  }
}

// What a kernel costs that does next to nothing.
TEST_F(AttentionSpeed, DISABLED_SmallKernels) {
  const int width = 2048;
  DeviceVector<float> x(width), y(width), weight(width);
  const double norm = time([&](cudaStream_t on) {
    rms_norm({.x = {x.data(), width},
              .addend = {y.data(), width},
              .weight = weight.data(),
              .y = {y.data(), width},
              .n = width,
              .rows = 1,
              .epsilon = 1e-6F},
             on);
  });
  const double sum = time([&](cudaStream_t on) {
    add({.a = {x.data(), width},
         .b = {y.data(), width},
         .out = {x.data(), width},
         .n = width,
         .tokens = 1},
        on);
  });
  std::printf("norm of %d floats %.2f us, sum %.2f us\n", width, norm, sum);
}

}  // namespace
}  // namespace tandem::cuda
