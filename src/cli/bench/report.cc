// One list of operators feeds both forms.
#include "cli/bench/report.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <vector>

#include <fmt/format.h>

#include "cli/build_commit.h"
#include "server/version.h"

namespace tandem::cli::bench {
namespace {

namespace json = boost::json;

// An operator in a mean step.
struct OpLine {
  std::string name;
  double calls;
  double seconds;
  double share;  // of the step
  double bytes_per_second;
  double ops_per_second;
};

// Those that ran, and as "other" what lies between them.
std::vector<OpLine> operator_lines(const Measurement& m) {
  const ProfiledRun& run = *m.profiled;
  std::vector<OpLine> lines;
  double rest = run.seconds;
  for (int i = 0; i < ops::kNumOps; ++i) {
    const auto op = static_cast<ops::Op>(i);
    const ops::Profile::Entry& entry = run.profile.of(op);
    if (entry.calls == 0) continue;
    rest -= entry.seconds;
    lines.push_back({.name = std::string(name_of(op)),
                     .calls = static_cast<double>(entry.calls) / m.steps,
                     .seconds = entry.seconds / m.steps,
                     .share = entry.seconds / run.seconds,
                     .bytes_per_second = static_cast<double>(entry.bytes) / entry.seconds,
                     .ops_per_second = 2.0 * static_cast<double>(entry.macs) / entry.seconds});
  }
  lines.push_back({.name = "other",
                   .calls = 0.0,
                   .seconds = rest / m.steps,
                   .share = rest / run.seconds,
                   .bytes_per_second = 0.0,
                   .ops_per_second = 0.0});
  return lines;
}

void print_operators(const Measurement& m) {
  for (const OpLine& op : operator_lines(m)) {
    std::string line = fmt::format("    {:<12} {:7.1f} calls {:10.3f} ms {:6.1f} %", op.name,
                                   op.calls, op.seconds * 1e3, op.share * 100.0);
    if (op.bytes_per_second > 0.0) {
      line += fmt::format(" {:8.2f} GB/s {:8.3f} TOPS", op.bytes_per_second / 1e9,
                          op.ops_per_second / 1e12);
    }
    std::printf("%s\n", line.c_str());
  }
}

struct SideLine {
  const char *key, *text;
  double seconds;
};

std::array<SideLine, 4> side_lines(const engine::StepSides& s) {
  return {{{"gpu", "GPU alone, CPU waits", s.gpu},
           {"both", "both", s.both},
           {"cpu", "CPU alone, GPU waits", s.cpu},
           {"around", "before and after", s.around}}};
}

void print_sides(const engine::StepSides& sides) {
  std::printf("    a step as a graph: %.3f ms\n", sides.total() * 1e3);
  for (const SideLine& side : side_lines(sides)) {
    std::printf("    %-25s %10.3f ms %6.1f %%\n", side.text, side.seconds * 1e3,
                100.0 * side.seconds / sides.total());
  }
}

json::object sides_json(const engine::StepSides& sides) {
  json::object out = {{"step_ms", sides.total() * 1e3}};
  for (const SideLine& side : side_lines(sides)) {
    out[std::string(side.key) + "_ms"] = side.seconds * 1e3;
  }
  return out;
}

json::array operators_json(const Measurement& m) {
  json::array list;
  for (const OpLine& op : operator_lines(m)) {
    json::object entry = {{"op", op.name},
                          {"calls_per_step", op.calls},
                          {"ms_per_step", op.seconds * 1e3},
                          {"share", op.share}};
    if (op.bytes_per_second > 0.0) {
      entry["gbps"] = op.bytes_per_second / 1e9;
      entry["tops"] = op.ops_per_second / 1e12;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

double hot_share(const engine::HotStatistics& hot) {
  return static_cast<double>(hot.hits) / static_cast<double>(std::max<int64_t>(hot.pairs, 1));
}

std::string test_name(const Test& test) {
  if (test.n_prompt > 0) return fmt::format("pp{}", test.n_prompt);
  std::string name = fmt::format("tg{}", test.n_gen);
  if (test.n_depth > 0) name += fmt::format(" @ d{}", test.n_depth);
  return name + fmt::format(" x {}", test.streams);
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&time, &utc);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc)};
}

}  // namespace

void print_header(const Setup& s) {
  const Machine& machine = s.machine;
  std::printf("%s, %d threads, %s: reads %.1f GB/s, copies %.1f GB/s, int8 peak %.2f TOPS\n",
              s.cpu_name.c_str(), s.threads, s.cpu_isa.c_str(), machine.read_bytes_per_second / 1e9,
              machine.copy_bytes_per_second / 1e9, machine.int8_ops_per_second / 1e12);
  std::printf("%s: %.0f MB loaded in %.2f s, %.2f GB/s (%.0f %% of copying)\n",
              s.model_path.c_str(), static_cast<double>(s.model_bytes) / 1e6, s.load_seconds,
              s.load_bytes_per_second() / 1e9,
              100.0 * s.load_bytes_per_second() / machine.copy_bytes_per_second);
  std::printf("%-18s %22s %12s %8s\n", "test", "tokens/s, median", "bound", "of it");
  std::fflush(stdout);
}

void print_row(const Measurement& m, const Setup& setup) {
  const Bounds b = bounds_of(m, setup.machine, setup.work);
  const bool prompt = m.test.n_prompt > 0;
  const std::vector<double> rates = m.rates();
  std::printf("%-18s %11.2f ± %8.2f", test_name(m.test).c_str(), median(rates), deviation(rates));
  if (b.percent == 0.0) {
    std::printf(" %12s\n", "-");
  } else {
    std::printf(" %12.2f %6.1f %%   %s\n", prompt ? b.compute_ts : b.bandwidth_ts, b.percent,
                (prompt ? fmt::format("{:.3f} GOP a token", b.ops_per_token / 1e9)
                        : fmt::format("{:.1f} MB a step", m.bytes_per_step / 1e6))
                    .c_str());
  }
  if (m.hot) {
    std::printf(
        "    hot experts: %.1f %% of routed pairs on the GPU, %d of %d slots used, %lld "
        "switches\n",
        100.0 * hot_share(*m.hot), m.hot->used_slots, m.hot->slots,
        static_cast<long long>(m.hot->switches));
  }
  if (m.profiled && m.sides) print_sides(*m.sides);
  if (m.profiled) print_operators(m);
  std::fflush(stdout);
}

json::object to_json(const Measurement& m, const Setup& s) {
  const Bounds b = bounds_of(m, s.machine, s.work);
  const std::vector<double> rates = m.rates();
  std::vector<double> times_ns;
  json::array samples_ns;
  for (const double seconds : m.seconds) {
    times_ns.push_back(seconds * 1e9);
    samples_ns.push_back(static_cast<int64_t>(seconds * 1e9));
  }
  json::object line = {{"build_version", server::kVersion},
                       {"build_commit", build_commit()},
                       {"cpu_info", s.cpu_name},
                       {"cpu_isa", s.cpu_isa},
                       {"backends", b.percent == 0.0 ? "CUDA" : "CPU"},
                       {"model_filename", s.model_path},
                       {"model_type", s.model_type},
                       {"model_size", s.model_bytes},
                       {"model_n_params", s.parameters},
                       {"n_batch", s.chunk_size},
                       {"n_ubatch", s.chunk_size},
                       {"n_threads", s.threads},
                       {"type_k", s.kv_type},
                       {"type_v", s.kv_type},
                       {"sampled", s.sampled},
                       {"n_prompt", m.test.n_prompt},
                       {"n_gen", m.test.n_gen},
                       {"n_depth", m.test.n_depth},
                       {"n_streams", m.test.streams},
                       {"test_time", now()},
                       {"avg_ns", static_cast<int64_t>(mean(times_ns))},
                       {"stddev_ns", static_cast<int64_t>(deviation(times_ns))},
                       {"avg_ts", mean(rates)},
                       {"stddev_ts", deviation(rates)},
                       {"median_ts", median(rates)},
                       {"samples_ns", std::move(samples_ns)},
                       {"samples_ts", json::value_from(rates)},
                       {"read_gbps", s.machine.read_bytes_per_second / 1e9},
                       {"copy_gbps", s.machine.copy_bytes_per_second / 1e9},
                       {"peak_tops", s.machine.int8_ops_per_second / 1e12},
                       {"load_seconds", s.load_seconds},
                       {"load_gbps", s.load_bytes_per_second() / 1e9},
                       {"bytes_per_step", m.bytes_per_step},
                       {"ops_per_token", b.ops_per_token},
                       {"int8_ops_per_token", b.int8_ops_per_token},
                       {"bandwidth_bound_ts", b.bandwidth_ts},
                       {"compute_bound_ts", b.compute_ts},
                       {"percent_of_bound", b.percent}};
  if (m.hot) {
    line["hot_share"] = hot_share(*m.hot);
    line["hot_slots"] = m.hot->slots;
    line["hot_switches"] = m.hot->switches;
  }
  if (m.profiled) {
    line["step_ms"] = m.profiled->seconds / m.steps * 1e3;
    line["ops"] = operators_json(m);
    if (m.sides) line["sides"] = sides_json(*m.sides);
  }
  return line;
}

}  // namespace tandem::cli::bench
