// What the machine could reach at most, and how near a measurement is to it.
#pragma once

#include "cli/bench/measure.h"
#include "kernels/cpu/kernels.h"
#include "models/work.h"
#include "platform/thread_pool.h"

namespace tandem::cli::bench {

struct Machine {
  double read_bytes_per_second = 0.0;
  double copy_bytes_per_second = 0.0;
  double int8_ops_per_second = 0.0;  // two for each multiply-add
};

// With the threads and the instruction set that the engine will have.
Machine measure_machine(platform::ThreadPool& pool, const cpu::Table& table);

struct Bounds {
  double ops_per_token = 0.0;       // two for each multiply-add with weights
  double int8_ops_per_token = 0.0;  // of the int8 products that they are made of
  double bandwidth_ts = 0.0;  // tokens per second if steps took as long as reading their weights
  double compute_ts = 0.0;    // tokens per second if they took as long as ops_per_token at the peak
  double percent = 0.0;       // the median's: of bandwidth_ts in decode, of compute_ts in prompts
};

Bounds bounds_of(const Measurement& m, const Machine& machine, const models::TokenWork& work);

}  // namespace tandem::cli::bench
