// How long decode attention takes, printed; run with --gtest_also_run_disabled_tests.
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
  static constexpr int kRepeats = 200;

  // Microseconds of one replay of a graph of kRepeats launches.
  template <typename Attend>
  double time(const Attend& attend) {
    using platform::cuda::Event;
    const auto graph = platform::cuda::Graph::capture(stream_owner(), [&](cudaStream_t on) {
      for (int i = 0; i < kRepeats; ++i) attend(on);
    });
    graph.launch(stream());
    const Event begin(Event::Timing::kOn), end(Event::Timing::kOn);
    begin.record(stream());
    graph.launch(stream());
    end.record(stream());
    end.synchronize();
    return end.since(begin) * 1000.0 / kRepeats;
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
