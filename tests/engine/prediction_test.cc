// Predictions beside what docs/benchmarking.md records of the machines there.
#include "engine/prediction.h"

#include <gtest/gtest.h>

#include "gguf/synthetic.h"

namespace tandem::engine {
namespace {

// What `tandem plan` measured beside a run, or the run itself.
struct Machine {
  const char* name;
  MachineSpeeds speeds;
};

Machine epyc() {  // reads 63, 36 and 63 GB/s at the starts of the rounds
  return {"epyc", {.host_read = 54e9, .host_int8 = 0.95e12, .isa = "avx512"}};
}
Machine h200(double read_gbps, double peak_tops) {  // beside 16 cores of a Xeon
  return {"h200",
          {.host_read = read_gbps * 1e9,
           .host_int8 = peak_tops * 1e12,
           .isa = "amx",
           .gpu_memory = 4.1e12,
           .gpu_upload = 55e9,
           .gpu_bf16 = 1070e12}};
}

struct Recorded {
  const char* model;
  Machine machine;
  int expert_layers_on_gpu;  // -1: the CPU alone
  Workload work;
  double tokens_per_second;
  bool streamed = false;  // prompts' experts are copied to the GPU
  int layers = 0;         // of the model, 0: all
};

class Predictions : public testing::TestWithParam<Recorded> {};

TEST_P(Predictions, AreNearWhatWasMeasured) {
  const Recorded& r = GetParam();
  const std::unique_ptr<gguf::File> file = gguf::open_synthetic(r.model, r.layers);
  const models::ModelConfig config = models::read_config(*file);
  const ModelSizes sizes = models::sizes_of(*file, config, {});
  PlanRequest request;
  if (r.streamed) request.stream_buffer_bytes = 1;  // of any size: the plan's figures are not used
  const Plan plan = r.expert_layers_on_gpu < 0
                        ? plan_on_cpu(sizes, request)
                        : plan_with_experts(sizes, request, r.expert_layers_on_gpu);
  const double rate = predict(sizes, plan, r.machine.speeds, r.work).tokens_per_second;
  std::printf("%-14s %-5s %3d pp%-5d x%-3d predicted %8.1f measured %8.1f %+.0f %%\n", r.model,
              r.machine.name, r.expert_layers_on_gpu, r.work.prompt, r.work.streams, rate,
              r.tokens_per_second, 100.0 * (rate / r.tokens_per_second - 1.0));
  EXPECT_NEAR(rate / r.tokens_per_second, 1.0, 0.2);
}

constexpr const char* kLite = "ds-v2-lite";
constexpr const char* kQwen = "qwen3-30b-a3b";
constexpr const char* kV3 = "ds-v3";
constexpr const char* kDense = "qwen3-14b";
constexpr Workload pp(int tokens, int chunk) { return {.prompt = tokens, .chunk = chunk}; }
constexpr Workload tg(int streams) { return {.streams = streams}; }
// tools/synth_gguf.py's file, whose tokens choose as if of 16 experts.
constexpr Workload file(Workload work) {
  work.spread = 16.0;
  return work;
}

INSTANTIATE_TEST_SUITE_P(
    Recorded, Predictions,
    testing::Values(Recorded{kLite, epyc(), -1, file(pp(512, 512)), 101},
                    Recorded{kLite, epyc(), -1, file(tg(1)), 20.2},
                    Recorded{kLite, epyc(), -1, file(tg(4)), 43.4},
                    Recorded{kLite, epyc(), -1, file(tg(8)), 58.0},
                    Recorded{kLite, h200(133, 76), -1, pp(512, 512), 636},
                    Recorded{kLite, h200(133, 76), -1, pp(2048, 512), 559},
                    Recorded{kLite, h200(133, 76), -1, tg(1), 60.5},
                    Recorded{kLite, h200(136, 83), -1, tg(4), 115},
                    Recorded{kLite, h200(133, 76), -1, tg(8), 135},
                    Recorded{kQwen, h200(123, 77), -1, pp(512, 512), 578},
                    Recorded{kQwen, h200(123, 77), -1, tg(1), 47.1},
                    Recorded{kQwen, h200(123, 77), -1, tg(4), 79.7},
                    Recorded{kQwen, h200(123, 77), -1, tg(8), 102},
                    Recorded{kDense, h200(123, 71), -1, pp(512, 512), 171},
                    Recorded{kDense, h200(123, 71), -1, tg(1), 13.7},
                    Recorded{kDense, h200(123, 71), -1, tg(4), 43.3},
                    Recorded{kDense, h200(123, 71), 0, pp(512, 512), 7739},
                    Recorded{kDense, h200(123, 71), 0, tg(1), 197},
                    Recorded{kDense, h200(123, 71), 0, tg(4), 730},
                    Recorded{kLite, h200(136, 78), 0, tg(1), 113},
                    Recorded{kLite, h200(136, 78), 0, tg(4), 156},
                    Recorded{kLite, h200(136, 78), 0, tg(8), 185},
                    Recorded{kQwen, h200(141, 77), 0, tg(1), 89.4},
                    Recorded{kQwen, h200(136, 82), 0, tg(4), 109},
                    Recorded{kQwen, h200(136, 82), 0, tg(8), 140},
                    Recorded{kV3, h200(122, 68), 0, pp(4096, 4096), 6296, true, 8},
                    Recorded{kV3, h200(122, 68), 0, tg(1), 92.6, false, 8},
                    Recorded{kV3, h200(122, 68), 0, tg(4), 112, false, 8},
                    Recorded{kV3, h200(122, 68), 0, tg(8), 130, false, 8},
                    Recorded{kV3, h200(121, 70), 5, pp(4096, 4096), 19622, false, 8},
                    Recorded{kV3, h200(121, 70), 5, tg(1), 492, false, 8},
                    Recorded{kV3, h200(121, 70), 5, tg(8), 1705, false, 8},
                    Recorded{kLite, h200(124, 73), 26, tg(1), 440},
                    Recorded{kLite, h200(124, 73), 26, tg(8), 1854},
                    Recorded{kLite, h200(124, 73), 26, tg(32), 4402},
                    Recorded{kQwen, h200(121, 63), 48, tg(1), 333},
                    Recorded{kQwen, h200(121, 63), 48, tg(8), 1314},
                    Recorded{kQwen, h200(121, 63), 48, tg(32), 2909}));

}  // namespace
}  // namespace tandem::engine
