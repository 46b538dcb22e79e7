// What goes where by sizes alone, and that predictions follow from their parts.
#include "engine/planner.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/prediction.h"
#include "gguf/synthetic.h"

namespace tandem::engine {
namespace {

constexpr int64_t kGb = 1'000'000'000;

// Ten layers, the first dense: 1 GB each of all but experts, 2 GB of experts; 10 kB of cache a
// token; 1 GB to work in. With 100 000 tokens and no experts 13 GB.
ModelSizes ten_layers() {
  ModelSizes model;
  model.layers.resize(10);
  for (size_t i = 0; i < 10; ++i) {
    model.layers[i].fixed_bytes = kGb;
    model.layers[i].fixed = {.a256 = 1e8};
    if (i == 0) continue;
    model.layers[i].experts_bytes = 2 * kGb;
    model.layers[i].experts = {.a256 = 2e8};
  }
  model.experts = 64;
  model.used = 8;
  model.embedding_bytes = kGb;
  model.output_bytes = kGb;
  model.tied = true;
  model.cache_bytes_per_token = 10'000;
  model.page_size = 100;
  model.gpu_work_bytes = kGb;
  model.host_work_bytes = kGb;
  return model;
}

PlanRequest with_gpu(int64_t gb) {
  PlanRequest request;
  request.fixed.experts.resize(10);
  request.fixed.cpu_prefill.resize(10);
  request.cache_tokens = 100'000;
  request.gpu_bytes = gb * kGb;
  return request;
}

std::string experts_of(const Plan& plan) {
  std::string text;
  for (const Device device : plan.experts) text += device == Device::kCpu ? 'c' : 'g';
  return text;
}

std::string refusal(const ModelSizes& model, const PlanRequest& request) {
  try {
    make_plan(model, request);
  } catch (const Error& error) {
    return error.what();
  }
  return "not refused";
}

TEST(Planner, TakesAllThatFits) {
  const Plan plan = make_plan(ten_layers(), with_gpu(31));
  EXPECT_TRUE(plan.on_gpu);
  EXPECT_EQ(plan.expert_layers, 9);
  EXPECT_EQ(plan.expert_layers_on_gpu, 9);
  EXPECT_EQ(plan.gpu.total(), 31 * kGb);
  EXPECT_EQ(plan.gpu.fixed, 11 * kGb);
  EXPECT_EQ(plan.gpu.cache, kGb);
  EXPECT_EQ(plan.host.experts, 0);
  EXPECT_EQ(plan.summary(), "all weights on the GPU");
}

TEST(Planner, TakesTheExpertsOfTheLastLayersThatFit) {
  EXPECT_EQ(experts_of(make_plan(ten_layers(), with_gpu(30))), "ccgggggggg");
  const Plan plan = make_plan(ten_layers(), with_gpu(18));
  EXPECT_EQ(experts_of(plan), "ccccccccgg");
  EXPECT_EQ(plan.gpu.total(), 17 * kGb);
  EXPECT_EQ(plan.host.experts, 14 * kGb);
  EXPECT_EQ(experts_of(make_plan(ten_layers(), with_gpu(13))), "cccccccccc");
}

TEST(Planner, CountsTheBuffersOfStreamedExperts) {
  PlanRequest request = with_gpu(18);
  request.stream_buffer_bytes = 4 * kGb;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_EQ(experts_of(plan), "cccccccccc");  // without buffers two layers fit
  EXPECT_EQ(plan.gpu.total(), 17 * kGb);
  EXPECT_EQ(plan.streamed, (std::vector<bool>{0, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  // All fit where all but one, and buffers, do not.
  request.gpu_bytes = 31 * kGb;
  EXPECT_EQ(experts_of(make_plan(ten_layers(), request)), "cggggggggg");
  EXPECT_FALSE(make_plan(ten_layers(), request).streams());
  request.gpu_bytes = 30 * kGb;
  EXPECT_EQ(experts_of(make_plan(ten_layers(), request)), "ccccgggggg");
}

TEST(Planner, StreamsNothingWhereTheBuffersDoNotFit) {
  PlanRequest request = with_gpu(16);
  request.stream_buffer_bytes = 4 * kGb;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_FALSE(plan.streams());
  EXPECT_EQ(experts_of(plan), "cccccccccg");
  EXPECT_EQ(plan.cache_tokens, 100'000);
  EXPECT_NE(plan.reason.find("4.00 GB of two buffers"), std::string::npos) << plan.reason;
  // Wanted with a number they have to fit: 13 GB, and 4, of which the cache is one.
  request.stream_from = 256;
  request.cache_is_fixed = true;
  for (const char* device : {"auto", "cuda"}) {
    request.device = device;
    const std::string text = refusal(ten_layers(), request);
    EXPECT_NE(text.find("--stream_experts off"), std::string::npos) << text;
  }
}

TEST(Planner, StreamsWhatRulesAndKernelsAllow) {
  PlanRequest request = with_gpu(18);
  request.stream_buffer_bytes = 4 * kGb;
  request.fixed.cpu_prefill[3] = true;
  ModelSizes model = ten_layers();
  model.layers[4].without_gpu_kernels = "F16";
  EXPECT_EQ(make_plan(model, request).streamed, (std::vector<bool>{0, 1, 1, 0, 0, 1, 1, 1, 1, 1}));
  request.device = "cpu";
  EXPECT_FALSE(make_plan(model, request).streams());
}

TEST(Planner, GivesHotExpertsWhatIsLeft) {
  PlanRequest request = with_gpu(18);
  request.fixed.experts.assign(10, Device::kCpu);
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.hot, 0);  // not asked for
  request.most_hot_bytes = 100 * kGb;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_EQ(plan.gpu.hot, 5 * kGb);
  EXPECT_EQ(plan.gpu.total(), 18 * kGb);
  EXPECT_EQ(plan.host.experts, 18 * kGb);  // copies: host memory has them too
  request.most_hot_bytes = 2 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.hot, 2 * kGb);
  request.most_hot_bytes = request.gpu_bytes.emplace(100 * kGb);
  // All there are, and a little for the form that kernels read.
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.hot, 18 * kGb + 18 * kGb / 64);
  ModelSizes model = ten_layers();
  model.layers[9].without_gpu_kernels = "F32";
  EXPECT_EQ(make_plan(model, request).gpu.hot, 16 * kGb + 16 * kGb / 64);
}

TEST(Planner, PrefersHotExpertsToWholeLayers) {
  PlanRequest request = with_gpu(20);
  EXPECT_EQ(make_plan(ten_layers(), request).expert_layers_on_gpu, 3);
  request.most_hot_bytes = 100 * kGb;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_EQ(plan.expert_layers_on_gpu, 0);
  EXPECT_EQ(plan.gpu.hot, 7 * kGb);
  // Where all experts fit they go there; where the user wants fewer hot ones, layers take the rest.
  request.gpu_bytes = 31 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).expert_layers_on_gpu, 9);
  request.gpu_bytes = 20 * kGb;
  request.most_hot_bytes = kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).expert_layers_on_gpu, 3);
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.hot, kGb);
}

TEST(Planner, KeepsToWishes) {
  PlanRequest request = with_gpu(31);
  request.fixed.experts[9] = Device::kCpu;
  request.fixed.experts[1] = Device::kCuda;
  EXPECT_EQ(experts_of(make_plan(ten_layers(), request)), "cggggggggc");
  request.gpu_bytes = 17 * kGb;
  EXPECT_EQ(experts_of(make_plan(ten_layers(), request)), "cgccccccgc");
  request.fixed.cpu_only = true;
  EXPECT_FALSE(make_plan(ten_layers(), request).on_gpu);
}

TEST(Planner, LeavesExpertsWithoutKernelsToTheCpu) {
  ModelSizes model = ten_layers();
  model.layers[9].without_gpu_kernels = "F16";
  EXPECT_EQ(experts_of(make_plan(model, with_gpu(31))), "cggggggggc");
  EXPECT_EQ(experts_of(plan_with_experts(model, with_gpu(31), 2)), "cccccccggc");
  PlanRequest request = with_gpu(31);
  request.fixed.experts[9] = Device::kCuda;
  EXPECT_NE(refusal(model, request).find("layer 9"), std::string::npos);
}

TEST(Planner, LowersOnlyACacheThatNobodyAskedFor) {
  PlanRequest request = with_gpu(12);
  request.gpu_bytes = 12 * kGb + kGb / 2;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_TRUE(plan.on_gpu);
  EXPECT_EQ(plan.cache_tokens, 50'000);
  EXPECT_LE(plan.gpu.total(), *request.gpu_bytes);
  request.cache_is_fixed = true;
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 1);
  EXPECT_EQ(make_plan(ten_layers(), request).cache_tokens, 100'000);
  request.fixed.gpu_from = 0;  // all layers are wanted on the GPU
  const std::string text = refusal(ten_layers(), request);
  for (const char* part :
       {"weights 11.00 GB", "KV cache 1.00 GB", "13.00 GB", "12.50 GB are free", "--cache_lens"}) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

// The GPU takes what it holds of 1.1 GB a layer beside 1 GB of the output's matrix, which is the
// embedding's too, and 1 GB to work in.
TEST(Planner, TakesTheLastLayersThatFit) {
  PlanRequest request = with_gpu(6);
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_TRUE(plan.on_gpu);
  EXPECT_EQ(plan.cpu_layers, 7);
  EXPECT_EQ(experts_of(plan), "cccccccccc");
  EXPECT_EQ(plan.gpu.fixed, (3 + 1) * kGb);
  EXPECT_EQ(plan.gpu.cache, 3 * kGb / 10);
  EXPECT_EQ(plan.gpu.total(), 5 * kGb + 3 * kGb / 10);
  EXPECT_EQ(plan.host.fixed, (7 + 1) * kGb);
  EXPECT_EQ(plan.host.cache, 7 * kGb / 10);
  EXPECT_EQ(plan.host.experts, 18 * kGb);
  EXPECT_EQ(plan.cache_tokens, 100'000);
  EXPECT_EQ(plan.summary(),
            "the last 3 of 10 layers on the GPU, the others on the CPU, and routed experts");
  // What is left goes to their experts, as ever.
  request.most_hot_bytes = 100 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.hot, 7 * kGb / 10);
  request.most_hot_bytes = 0;
  request.stream_buffer_bytes = 4 * kGb;
  EXPECT_FALSE(make_plan(ten_layers(), request).streams());
  request.gpu_bytes = 2 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 10);
  EXPECT_EQ(make_plan(ten_layers(), request).gpu.total(), 2 * kGb);
}

// Dense, and the two tables are two matrices: each side has its own.
TEST(Planner, DividesADenseModel) {
  ModelSizes model = ten_layers();
  model.tied = false;
  for (LayerSizes& layer : model.layers) layer.experts_bytes = 0;
  const Plan plan = make_plan(model, with_gpu(9));
  EXPECT_EQ(plan.cpu_layers, 4);
  EXPECT_EQ(plan.gpu.fixed, 7 * kGb);
  EXPECT_EQ(plan.host.fixed, 5 * kGb);
  EXPECT_EQ(plan.summary(), "the last 6 of 10 layers on the GPU, the others on the CPU");
  EXPECT_EQ(make_plan(model, with_gpu(14)).cpu_layers, 0);
}

TEST(Planner, TakesLayersWhereThatIsQuickerThanTheCpuAlone) {
  PlanRequest request = with_gpu(6);
  int asked = 0;
  bool quicker = true;
  request.quicker = [&](const Plan& divided, const Plan& cpu) {
    EXPECT_EQ(divided.cpu_layers, 7);
    EXPECT_FALSE(cpu.on_gpu);
    ++asked;
    return quicker;
  };
  EXPECT_TRUE(make_plan(ten_layers(), request).on_gpu);
  quicker = false;
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_FALSE(plan.on_gpu);
  EXPECT_NE(plan.reason.find("predicted quicker than with the last 3 of 10"), std::string::npos)
      << plan.reason;
  EXPECT_EQ(asked, 2);
  // Nobody is asked where the user wants the GPU, or where all but the experts fit.
  request.device = "cuda";
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 7);
  request.device = "auto";
  request.gpu_bytes = 13 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 0);
  EXPECT_EQ(asked, 2);
}

TEST(Planner, KeepsToLayersThatAreWished) {
  PlanRequest request = with_gpu(31);
  request.fixed.cpu_layers = 4;
  Plan plan = make_plan(ten_layers(), request);
  EXPECT_EQ(plan.cpu_layers, 4);
  EXPECT_EQ(experts_of(plan), "ccccgggggg");
  EXPECT_EQ(plan.expert_layers, 6);
  EXPECT_EQ(plan.gpu.experts, 12 * kGb);
  EXPECT_EQ(plan.host.experts, 6 * kGb);
  EXPECT_EQ(plan.summary(), "the last 6 of 10 layers on the GPU, the others on the CPU");
  request.stream_buffer_bytes = 4 * kGb;
  request.gpu_bytes = 15 * kGb;
  plan = make_plan(ten_layers(), request);
  EXPECT_EQ(plan.streamed, (std::vector<bool>{0, 0, 0, 0, 1, 1, 1, 1, 1, 0}));
  // More of them on the CPU where these do not fit, but not of those that are wanted on the GPU.
  request.gpu_bytes = 6 * kGb;
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 7);
  request.fixed.gpu_from = 6;
  EXPECT_EQ(make_plan(ten_layers(), request).reason.rfind("the GPU is too small", 0), 0U);
  request.fixed.needs_gpu = true;
  EXPECT_NE(refusal(ten_layers(), request).find("--n-gpu-layers"), std::string::npos);
  request.fixed.gpu_from = 7;
  EXPECT_EQ(make_plan(ten_layers(), request).cpu_layers, 7);
}

TEST(Planner, FallsBackOnTheCpuUnlessTheGpuIsAskedFor) {
  PlanRequest request = with_gpu(1);
  const Plan plan = make_plan(ten_layers(), request);
  EXPECT_FALSE(plan.on_gpu);
  EXPECT_NE(plan.reason.find("too small"), std::string::npos);
  EXPECT_EQ(plan.host.total(), (11 + 18 + 1 + 1) * kGb);
  EXPECT_EQ(plan.cache_tokens, 100'000);
  request.device = "cuda";
  EXPECT_NE(refusal(ten_layers(), request).find("too small"), std::string::npos);
  request.device = "cpu";
  EXPECT_FALSE(make_plan(ten_layers(), request).on_gpu);
}

TEST(Planner, WithoutAGpuWhatWantsOneIsRefused) {
  PlanRequest request = with_gpu(0);
  request.gpu_bytes.reset();
  request.no_gpu = "no GPU: none";
  EXPECT_EQ(make_plan(ten_layers(), request).reason, "no GPU: none");
  request.fixed.needs_gpu = true;
  EXPECT_NE(refusal(ten_layers(), request).find("no GPU: none"), std::string::npos);
  request.fixed.needs_gpu = false;
  request.device = "cuda";
  EXPECT_NE(refusal(ten_layers(), request).find("--device cuda: no GPU: none"), std::string::npos);
}

TEST(Prediction, CountsDistinctExperts) {
  EXPECT_DOUBLE_EQ(expected_experts(64, 8, 1), 8.0);
  EXPECT_DOUBLE_EQ(expected_experts(64, 8, 2), 15.0);  // 64 * (1 - (7 / 8)^2)
  EXPECT_NEAR(expected_experts(64, 8, 1000), 64.0, 1e-9);
  EXPECT_DOUBLE_EQ(expected_experts(8, 8, 3), 8.0);
}

constexpr double kFast = 1e15;

TEST(Prediction, GrowsWithWhatBoundsIt) {
  const ModelSizes model = ten_layers();
  const Plan cpu = plan_on_cpu(model, with_gpu(31));
  const MachineSpeeds slow = {.host_read = 50e9, .host_int8 = kFast, .isa = "avx512"};
  MachineSpeeds quick = slow;
  quick.host_read *= 2;
  const auto rate = [&](const Plan& plan, const MachineSpeeds& machine, const Workload& work) {
    return predict(model, plan, machine, work).tokens_per_second;
  };
  // 9 layers with 8 of 64 experts, 10 of fixed weights, the output: 13.25 GB at 50 GB/s and less.
  EXPECT_LT(rate(cpu, slow, {}), 50.0 / 13.25);
  EXPECT_GT(rate(cpu, slow, {}), 0.5 * 50.0 / 13.25);
  EXPECT_NEAR(rate(cpu, quick, {}) / rate(cpu, slow, {}), 2.0, 0.02);
  // Streams share what they read, and are never slower together.
  EXPECT_GT(rate(cpu, slow, {.streams = 4}), 2.0 * rate(cpu, slow, {}));
  EXPECT_LT(rate(cpu, slow, {.streams = 4}), 4.0 * rate(cpu, slow, {}));
  // Tokens that are more alike read less.
  EXPECT_GT(rate(cpu, slow, {.streams = 4, .spread = 16}), rate(cpu, slow, {.streams = 4}));
}

TEST(Prediction, MoreOnTheGpuIsFaster) {
  const ModelSizes model = ten_layers();
  const MachineSpeeds machine = {
      .host_read = 50e9, .host_int8 = 1e12, .isa = "avx512", .gpu_memory = 2e12, .gpu_bf16 = 1e15};
  for (const Workload& work : {Workload{}, Workload{.streams = 8}, Workload{.prompt = 512}}) {
    double last = predict(model, plan_on_cpu(model, with_gpu(31)), machine, work).tokens_per_second;
    // The output alone, then more and more of the layers before it.
    for (const int gb : {2, 4, 8, 12}) {
      const Plan plan = *plan_with_last_layers(model, with_gpu(gb));
      EXPECT_GT(plan.cpu_layers, 0);
      const Prediction p = predict(model, plan, machine, work);
      EXPECT_GT(p.tokens_per_second, last) << gb;
      last = p.tokens_per_second;
    }
    for (const int layers : {0, 4, 9}) {
      const Prediction p =
          predict(model, plan_with_experts(model, with_gpu(31), layers), machine, work);
      EXPECT_GT(p.tokens_per_second, last) << layers;
      EXPECT_EQ(p.hand_offs > 0.0, layers < 9);
      last = p.tokens_per_second;
    }
  }
}

// 14 billion parameters of 4.5 bits on a card of 8 GB that reads 280 GB/s: worth it beside two
// channels of memory, not beside twelve.
TEST(Prediction, DividesADenseModelWhereTheGpuReadsFaster) {
  ModelSizes model;
  LayerSizes layer;
  layer.fixed_bytes = 150'000'000;
  layer.fixed = {.a256 = 275e6};
  model.layers.assign(48, layer);
  model.embedding_bytes = 440'000'000;
  model.output_bytes = 640'000'000;
  model.output = {.a256 = 780e6};
  model.cache_bytes_per_token = 48 * 2 * 8 * 128 * 2;
  model.attention_macs_per_key = 48 * 40 * 256;
  model.page_size = 64;
  model.gpu_work_bytes = 1'150'000'000;
  MachineSpeeds machine = {.host_read = 60e9,
                           .host_int8 = 5e12,
                           .isa = "avx512",
                           .gpu_memory = 280e9,
                           .gpu_bf16 = 60e12};
  PlanRequest request;
  request.cache_tokens = 16384;
  request.cache_is_fixed = true;
  request.gpu_bytes = 8 * kGb;
  request.quicker = [&](const Plan& divided, const Plan& cpu) {
    return predict(model, divided, machine, {}).tokens_per_second >
           predict(model, cpu, machine, {}).tokens_per_second;
  };
  const Plan plan = make_plan(model, request);
  EXPECT_EQ(plan.cpu_layers, 20);
  EXPECT_EQ(plan.cache_tokens, 16384);
  request.cache_is_fixed = false;
  machine.host_read = 400e9;
  EXPECT_FALSE(make_plan(model, request).on_gpu);
}

TEST(Prediction, PromptsTakeTheQuickerWayForExperts) {
  const ModelSizes model = ten_layers();
  MachineSpeeds machine = {
      .host_read = 50e9, .host_int8 = 1e12, .isa = "avx512", .gpu_memory = 2e12, .gpu_bf16 = 1e15};
  PlanRequest request = with_gpu(31);
  const Workload prompt = {.prompt = 512, .chunk = 512};
  const auto run = [&](const Workload& work) {
    return predict(model, plan_with_experts(model, request, 0), machine, work);
  };
  const Prediction on_cpu = run(prompt);
  EXPECT_EQ(on_cpu.copies, 0.0);
  request.stream_buffer_bytes = 4 * kGb;
  EXPECT_EQ(run(prompt).cpu, on_cpu.cpu);  // no bus was measured
  machine.gpu_upload = 50e9;
  const Prediction streamed = run(prompt);
  EXPECT_EQ(streamed.cpu, 0.0);
  // 18 GB over the bus, less what computing hides.
  EXPECT_NEAR(streamed.gpu + streamed.copies, 18.0 / 50.0, 0.1);
  EXPECT_GT(streamed.tokens_per_second, on_cpu.tokens_per_second);
  machine.gpu_upload = 0.5e9;
  EXPECT_EQ(run(prompt).cpu, on_cpu.cpu);
  machine.gpu_upload = 50e9;
  EXPECT_EQ(run({.streams = 4}).copies, 0.0);
  request.stream_from = 600;
  EXPECT_EQ(run(prompt).cpu, on_cpu.cpu);
}

TEST(ModelSizes, AreTheFiles) {
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic("ds-v2-lite", 0);
  const models::ModelConfig config = models::read_config(*file);
  const ModelSizes sizes = models::sizes_of(*file, config, {});
  const auto output_norm = static_cast<int64_t>(file->find_tensor("output_norm.weight")->bytes);
  EXPECT_EQ(sizes.fixed_bytes() + sizes.experts_bytes() + output_norm,
            static_cast<int64_t>(file->total_bytes()));
  EXPECT_EQ(sizes.layers[0].experts_bytes, 0);
  EXPECT_GT(sizes.layers[1].experts_bytes, 0);
  EXPECT_EQ(sizes.cache_bytes_per_token, 27 * 576 * 2);
  EXPECT_TRUE(sizes.layers[1].without_gpu_kernels.empty());
  EXPECT_EQ(sizes.used, 6);
}

}  // namespace
}  // namespace tandem::engine
