// Decode is bound by reading weights, a prompt by arithmetic.
#include "cli/bench/bounds.h"

#include "ops/peak.h"
#include "platform/bandwidth.h"

namespace tandem::cli::bench {

Machine measure_machine(platform::ThreadPool& pool, const cpu::Table& table) {
  const platform::Bandwidth bandwidth = platform::measure_bandwidth(pool);
  return {.read_bytes_per_second = bandwidth.read,
          .copy_bytes_per_second = bandwidth.copy,
          .int8_ops_per_second = ops::measure_peak_int8(pool, table)};
}

Bounds bounds_of(const Measurement& m, const Machine& machine, const models::TokenWork& work) {
  const bool prompt = m.test.n_prompt > 0;
  // Only the last token of a prompt is multiplied with the output matrix.
  const double outputs = prompt ? 1.0 / m.test.n_prompt : 1.0;
  const double tokens_per_step = m.test.tokens() / m.steps;
  Bounds b;
  b.ops_per_token = 2.0 * (work.layers.macs + outputs * work.output.macs);
  b.int8_ops_per_token = 2.0 * (work.layers.int8_products + outputs * work.output.int8_products);
  if (m.bytes_per_step == 0.0) return b;  // on a GPU: the CPU's figures bound nothing
  b.bandwidth_ts = machine.read_bytes_per_second / m.bytes_per_step * tokens_per_step;
  b.compute_ts = machine.int8_ops_per_second / b.ops_per_token;
  b.percent = 100.0 * median(m.rates()) / (prompt ? b.compute_ts : b.bandwidth_ts);
  return b;
}

}  // namespace tandem::cli::bench
