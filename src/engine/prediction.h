// How fast a plan would be, from what the machine was measured to give: steps are sums of reading
// weights, multiplying and fixed costs, with the shares of the peaks that kernels reach as named
// constants (docs/benchmarking.md#predictions).
#pragma once

#include <string>

#include "engine/planner.h"

namespace tandem::engine {

// Bytes and operations a second.
struct MachineSpeeds {
  double host_read = 0.0;   // platform::measure_bandwidth
  double host_int8 = 0.0;   // ops::measure_peak_int8
  std::string isa;          // of the CPU's kernels
  double gpu_memory = 0.0;  // ops::measure_gpu_speeds; 0: no GPU
  double gpu_upload = 0.0;  // from page-locked memory
  double gpu_bf16 = 0.0;
};

// Distinct experts of `spread` that `tokens` tokens with `used` each go to, if tokens choose evenly
// and independently: spread * (1 - (1 - used / spread) ^ tokens).
double expected_experts(double spread, int used, double tokens);

struct Workload {
  int streams = 1;  // that generate together
  int prompt = 0;   // or tokens of a prompt, in steps of a chunk
  int chunk = 256;
  int depth = 128;      // tokens in the cache before
  double spread = 0.0;  // experts of a layer that tokens are spread over evenly; 0: all
};

struct Prediction {
  double tokens_per_second = 0.0;
  // Seconds of a step (of a prompt's steps together).
  double cpu = 0.0, gpu = 0.0, hand_offs = 0.0;
  double copies = 0.0;  // of experts, that nothing else hides
};

Prediction predict(const ModelSizes& model, const Plan& plan, const MachineSpeeds& machine,
                   const Workload& work);

}  // namespace tandem::engine
