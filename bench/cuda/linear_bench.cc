// Speed of the GPU's products beside their bounds: bytes of weights over measured read bandwidth,
// operations over the bf16 peak. Each figure is the median of several replays of a graph of calls
// that go round among copies of the weights larger than the L2 cache.
//
//   cuda_linear_bench [few] [choice] [many] [experts] [types]
// "choice" compares the kernels for few and for many tokens where the number of tokens is between.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "bench/cuda/read_bandwidth.h"
#include "kernels/cuda/experts.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_kernels.h"
#include "platform/cuda/error.h"
#include "platform/cuda/memory.h"
#include "quant/panels.h"
#include "quant/types.h"
#include "tests/quant/random_stack.h"

namespace {

using namespace tandem;
using platform::cuda::DeviceMemory;

constexpr int64_t kMoreThanCache = int64_t{400} << 20;
// What a library's bf16 product reached on an H100 with random data; the nominal peak is 989.
constexpr double kPeakTflops = 800.0;

cudaStream_t stream() {
  static cudaStream_t stream = [] {
    cudaStream_t s;
    TANDEM_CUDA_CALL(cudaStreamCreate(&s));
    return s;
  }();
  return stream;
}

// Seconds of one call of f(i), i = 0 .. calls - 1, inside a graph.
double seconds(int calls, const std::function<void(int)>& f) {
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  TANDEM_CUDA_CALL(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) f(i);
  TANDEM_CUDA_CALL(cudaStreamEndCapture(stream(), &graph));
  TANDEM_CUDA_CALL(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  TANDEM_CUDA_CALL(cudaEventCreate(&begin));
  TANDEM_CUDA_CALL(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 9; ++i) {
    TANDEM_CUDA_CALL(cudaEventRecord(begin, stream()));
    TANDEM_CUDA_CALL(cudaGraphLaunch(exec, stream()));
    TANDEM_CUDA_CALL(cudaEventRecord(end, stream()));
    TANDEM_CUDA_CALL(cudaEventSynchronize(end));
    float ms;
    TANDEM_CUDA_CALL(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 2) times.push_back(ms);
  }
  TANDEM_CUDA_CALL(cudaGraphExecDestroy(exec));
  TANDEM_CUDA_CALL(cudaGraphDestroy(graph));
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2] * 1e-3 / calls;
}

double measured_bandwidth() {
  const int64_t bytes = int64_t{2} << 30;
  DeviceMemory data(bytes), out(256);
  TANDEM_CUDA_CALL(cudaMemset(data.data(), 1, bytes));
  const double t =
      seconds(4, [&](int) { bench::read_all(data.data(), bytes, out.as<uint32_t>(), stream()); });
  return bytes / t;
}
double bandwidth = 0.0;

// `count` matrices [n, k]: random panels, the same ones over and over.
DeviceMemory weights(DType type, int64_t n, int64_t k, int64_t count) {
  testing::RandomStack stack(type, 1, 64, k, 1);
  const Tensor tensor = stack.in_parts(1);
  const int64_t bytes = quant::stack_bytes(tensor);
  const int64_t total = quant::matrix_bytes(type, Layout::kPanels, n, k) * count;
  DeviceMemory memory(static_cast<size_t>(total + bytes));
  TANDEM_CUDA_CALL(cudaMemcpy(memory.data(), tensor.data, bytes, cudaMemcpyHostToDevice));
  for (int64_t done = bytes; done < total; done *= 2) {
    TANDEM_CUDA_CALL(cudaMemcpy(memory.data() + done, memory.data(), std::min(done, total - done),
                                cudaMemcpyDeviceToDevice));
  }
  return memory;
}

DeviceMemory activations(int64_t rows, int64_t k) {
  const auto x = testing::random_floats(rows * k, 0.1F, 2);
  DeviceMemory floats(x.size() * 4), out(x.size() * 2);
  TANDEM_CUDA_CALL(cudaMemcpy(floats.data(), x.data(), x.size() * 4, cudaMemcpyHostToDevice));
  cuda::round_for_products({.x = floats.as<float>(),
                            .x_stride = k,
                            .out = {out.as<__nv_bfloat16>(), k},
                            .n = k,
                            .rows = rows},
                           stream());
  TANDEM_CUDA_CALL(cudaStreamSynchronize(stream()));
  return out;
}

struct Product {
  DType type;
  int n, k;
  bool gated = false;  // n rows of gate and n of up
};

// Which kernel multiplies: the one that linear() picks, or one of them.
enum class Kernel : uint8_t { kPicked, kFew, kMany };

void bench_linear(const Product& s, std::initializer_list<int> tokens,
                  Kernel kernel = Kernel::kPicked) {
  const int64_t bytes = quant::matrix_bytes(s.type, Layout::kPanels, s.n, s.k);
  const int64_t read = s.gated ? 2 * bytes : bytes;
  const int calls = static_cast<int>(std::clamp<int64_t>(kMoreThanCache / read, 4, 200));
  const int copies = s.gated ? 2 * calls : calls;
  const DeviceMemory w = weights(s.type, s.n, s.k, copies);
  std::printf("%-7s %6d x %5d%s", quant::traits(s.type).name.data(), s.n, s.k,
              s.gated ? " gated" : "      ");
  for (const int t : tokens) {
    const DeviceMemory x = activations(t, s.k), y(static_cast<size_t>(t) * s.n * 4);
    const auto at = [&](int i) { return w.data() + (i % copies) * bytes; };
    const double time = seconds(t > 32 ? std::min(calls, 20) : calls, [&](int i) {
      if (s.gated) {
        const auto run = kernel == Kernel::kFew    ? cuda::gated_few
                         : kernel == Kernel::kMany ? cuda::gated_many
                                                   : cuda::linear_gated;
        run({.gate = at(2 * i),
             .up = at(2 * i + 1),
             .type = s.type,
             .n = s.n,
             .x = {x.as<__nv_bfloat16>(), s.k},
             .k = s.k,
             .tokens = t,
             .y = {y.as<__nv_bfloat16>(), s.n}},
            stream());
      } else {
        const auto run = kernel == Kernel::kFew    ? cuda::linear_few
                         : kernel == Kernel::kMany ? cuda::linear_many
                                                   : cuda::linear;
        run({.matrices = {{at(i), s.type, s.n, nullptr, y.as<float>(), s.n, false}},
             .count = 1,
             .x = {x.as<__nv_bfloat16>(), s.k},
             .x_f32 = nullptr,
             .x_f32_stride = 0,
             .k = s.k,
             .tokens = t},
            stream());
      }
    });
    if (t <= 64) {
      std::printf(" | T%-2d %7.2f us %5.0f GB/s %3.0f%%", t, time * 1e6, read / time * 1e-9,
                  100.0 * read / time / bandwidth);
    } else {
      const double tflops = 2.0 * t * s.n * s.k * (s.gated ? 2 : 1) / time * 1e-12;
      std::printf(" | T%-4d %8.1f us %4.0f TF %3.0f%%", t, time * 1e6, tflops,
                  100.0 * tflops / kPeakTflops);
    }
  }
  std::printf("\n");
  std::fflush(stdout);
}

struct ExpertShape {
  const char* name;
  DType gate_type, down_type;
  int experts, used, hidden, width;
};

void bench_experts(const ExpertShape& s, std::initializer_list<int> tokens) {
  const int64_t gate_bytes = quant::matrix_bytes(s.gate_type, Layout::kPanels, s.hidden, s.width);
  const int64_t down_bytes = quant::matrix_bytes(s.down_type, Layout::kPanels, s.width, s.hidden);
  const DeviceMemory gate = weights(s.gate_type, s.hidden, s.width, s.experts);
  const DeviceMemory up = weights(s.gate_type, s.hidden, s.width, s.experts);
  const DeviceMemory down = weights(s.down_type, s.width, s.hidden, s.experts);
  for (const int t : tokens) {
    const int calls = t <= 64 ? 20 : 4;
    const DeviceMemory x = activations(t, s.width);
    const size_t pairs = static_cast<size_t>(t) * s.used;
    std::vector<int32_t> ids(pairs * calls);
    const std::vector<float> ones(pairs, 0.1F);
    std::mt19937 bits(3);
    int64_t distinct = 0;
    for (int i = 0; i < calls; ++i) {
      std::vector<bool> met(s.experts, false);
      for (int token = 0; token < t; ++token) {
        int32_t* own = ids.data() + i * pairs + static_cast<size_t>(token) * s.used;
        for (int rank = 0; rank < s.used; ++rank) {
          do {
            own[rank] = static_cast<int32_t>(bits() % s.experts);
          } while (std::find(own, own + rank, own[rank]) != own + rank);
          if (!met[own[rank]]) ++distinct;
          met[own[rank]] = true;
        }
      }
    }
    DeviceMemory device_ids(ids.size() * 4), device_ones(pairs * 4);
    DeviceMemory residual(static_cast<size_t>(t) * s.width * 4);
    DeviceMemory workspace(cuda::experts_workspace_bytes(t, s.used, s.experts, s.hidden, s.width));
    TANDEM_CUDA_CALL(
        cudaMemcpy(device_ids.data(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
    TANDEM_CUDA_CALL(
        cudaMemcpy(device_ones.data(), ones.data(), pairs * 4, cudaMemcpyHostToDevice));
    TANDEM_CUDA_CALL(cudaMemset(residual.data(), 0, residual.bytes()));
    const double time = seconds(calls, [&](int i) {
      const cuda::ExpertSums sums = cuda::run_experts({.gate = gate.data(),
                                                       .up = up.data(),
                                                       .down = down.data(),
                                                       .gate_type = s.gate_type,
                                                       .down_type = s.down_type,
                                                       .experts = s.experts,
                                                       .hidden = s.hidden,
                                                       .width = s.width,
                                                       .x = {x.as<__nv_bfloat16>(), s.width},
                                                       .ids = device_ids.as<int32_t>() + i * pairs,
                                                       .weights = device_ones.as<float>(),
                                                       .tokens = t,
                                                       .used = s.used,
                                                       .residual = residual.as<float>(),
                                                       .workspace = workspace.data()},
                                                      stream());
      cuda::combine_experts(sums, stream());
    });
    const double read = static_cast<double>(distinct) / calls * (2 * gate_bytes + down_bytes);
    const double tflops = 6.0 * pairs * s.hidden * s.width / time * 1e-12;
    std::printf("%-10s T%-4d %8.1f us  %5.0f GB/s %3.0f%%  %4.0f TF %3.0f%%\n", s.name, t,
                time * 1e6, read / time * 1e-9, 100.0 * read / time / bandwidth, tflops,
                100.0 * tflops / kPeakTflops);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto wants = [&](const char* part) {
    if (argc == 1) return true;
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], part) == 0) return true;
    }
    return false;
  };
  cudaDeviceProp card;
  TANDEM_CUDA_CALL(cudaGetDeviceProperties(&card, 0));
  bandwidth = measured_bandwidth();
  std::printf("%s, %d SMs; reads %.0f GB/s\n", card.name, card.multiProcessorCount,
              bandwidth * 1e-9);
  const auto q4 = DType::kQ4_K, q6 = DType::kQ6_K;
  if (wants("few")) {
    for (const Product& s : {Product{q4, 576, 2048},
                             {q4, 2048, 2048},
                             {q4, 3072, 2048},
                             {q4, 4096, 2048},
                             {q4, 2048, 4096},
                             {q4, 1408, 2048, true},
                             {q4, 10944, 2048, true},
                             {q4, 7168, 7168},
                             {q6, 7168, 18432},
                             {q4, 18432, 7168, true},
                             {q6, 102400, 2048}}) {
      bench_linear(s, {1, 4, 8, 16, 32});
    }
  }
  if (wants("choice")) {
    for (const Product& s : {Product{q4, 576, 2048},
                             {q4, 2048, 2048},
                             {q4, 5120, 2048},
                             {q4, 2048, 4096},
                             {q4, 1408, 2048, true},
                             {q4, 2816, 2048, true},
                             {q6, 151936, 2048}}) {
      for (const Kernel kernel : {Kernel::kFew, Kernel::kMany}) {
        std::printf(kernel == Kernel::kFew ? "few  " : "many ");
        bench_linear(s, {8, 12, 16, 24, 32, 48, 64}, kernel);
      }
    }
  }
  if (wants("types")) {
    for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                             DType::kIQ4_NL, DType::kMXFP4, DType::kQ2_K, DType::kQ3_K,
                             DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_XS}) {
      bench_linear({type, 16384, 7168}, {1, 8, 32, 2048});
    }
  }
  if (wants("many")) {
    for (const Product& s : {Product{q4, 2048, 2048},
                             {q4, 1408, 2048, true},
                             {q4, 7168, 7168},
                             {q6, 7168, 18432},
                             {q4, 18432, 7168, true}}) {
      bench_linear(s, {64, 128, 512, 4096});
    }
  }
  if (wants("experts")) {
    bench_experts({"V2-Lite", q4, DType::kQ5_0, 64, 6, 1408, 2048},
                  {1, 4, 8, 32, 64, 128, 512, 4096});
    bench_experts({"Qwen3-30B", q4, q6, 128, 8, 768, 2048}, {1, 4, 8, 32, 64, 128, 512, 4096});
    bench_experts({"V3", q4, q6, 256, 8, 2048, 7168}, {1, 4, 8, 32, 512, 4096});
  }
  return 0;
}
