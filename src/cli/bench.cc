// `tandem bench`: prompt and generation speed of the engine without server, beside the memory
// bandwidth that bounds decode. JSON uses llama-bench's field names.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "engine/load.h"
#include "gguf/file.h"
#include "platform/bandwidth.h"
#include "platform/topology.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct BenchOptions {
  std::string gguf_path;
  std::vector<int> prompts = {512};
  std::vector<int> streams = {1, 4};
  int generate = 64;
  int repetitions = 3;
  std::string output = "table";
  std::string kv_type = "f16";
  engine::Options engine;
};

struct Measurement {
  int streams = 1;
  int n_prompt = 0;
  int n_gen = 0;
  std::vector<double> seconds;  // one for each repetition
  double bytes_per_step = 0.0;  // distinct weights touched, mean over the steps

  double tokens() const { return static_cast<double>(streams) * (n_prompt + n_gen); }
  double mean_rate() const {
    double sum = 0.0;
    for (const double s : seconds) sum += tokens() / s;
    return sum / static_cast<double>(seconds.size());
  }
  double deviation() const {
    const double mean = mean_rate();
    double sum = 0.0;
    for (const double s : seconds) sum += (tokens() / s - mean) * (tokens() / s - mean);
    return seconds.size() < 2 ? 0.0 : std::sqrt(sum / static_cast<double>(seconds.size() - 1));
  }
};

class Bench {
 public:
  Bench(const BenchOptions& options, engine::LocalEngine& engine)
      : options_(options), engine_(engine), generator_(1) {
    pages_per_stream_ =
        engine.info().num_pages / *std::max_element(options.streams.begin(), options.streams.end());
    for (int i = 0; i < engine.info().num_pages; ++i) pages_.push_back(i);
  }

  Measurement prompt(int tokens) {
    Measurement m{.streams = 1, .n_prompt = tokens, .n_gen = 0, .seconds = {}};
    repeat(m, [&] { return process_prompt(tokens); });
    return m;
  }

  Measurement generation(int streams) {
    Measurement m{.streams = streams, .n_prompt = 0, .n_gen = options_.generate, .seconds = {}};
    repeat(m, [&] { return generate(streams); });
    return m;
  }

 private:
  // body returns the bytes of weights that its steps touched, on average.
  template <typename Body>
  void repeat(Measurement& m, const Body& body) {
    body();  // warm-up
    for (int i = 0; i < options_.repetitions; ++i) {
      const auto start = std::chrono::steady_clock::now();
      m.bytes_per_step = body();
      m.seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
  }

  int32_t random_token() {
    return static_cast<int32_t>(generator_() % static_cast<uint32_t>(engine_.info().vocab_size));
  }

  engine::SequenceSlice slice(int stream, int position, int tokens, bool sample) {
    const auto first = static_cast<size_t>(stream * pages_per_stream_);
    return {.num_tokens = tokens,
            .position = position,
            .pages = std::span(pages_).subspan(first, static_cast<size_t>(pages_per_stream_)),
            .sample = sample,
            .sampling = nullptr,
            .history = {},
            .prompt_tokens = 0,
            .banned = {}};
  }

  double process_prompt(int tokens) {
    double bytes = 0.0;
    int steps = 0;
    const int chunk = engine_.info().max_step_tokens;
    for (int done = 0; done < tokens; done += chunk, ++steps) {
      const int count = std::min(chunk, tokens - done);
      std::vector<int32_t> ids(static_cast<size_t>(count));
      for (int32_t& id : ids) id = random_token();
      const engine::SequenceSlice s = slice(0, done, count, done + count == tokens);
      engine_.step({.tokens = ids, .sequences = {&s, 1}});
      bytes += static_cast<double>(engine_.last_step_weight_bytes());
    }
    return bytes / steps;
  }

  double generate(int streams) {
    double bytes = 0.0;
    for (int position = 0; position < options_.generate; ++position) {
      std::vector<int32_t> ids;
      std::vector<engine::SequenceSlice> slices;
      for (int stream = 0; stream < streams; ++stream) {
        ids.push_back(random_token());
        slices.push_back(slice(stream, position, 1, true));
      }
      engine_.step({.tokens = ids, .sequences = slices});
      bytes += static_cast<double>(engine_.last_step_weight_bytes());
    }
    return bytes / options_.generate;
  }

  const BenchOptions& options_;
  engine::LocalEngine& engine_;
  std::mt19937 generator_;
  int pages_per_stream_;
  std::vector<int32_t> pages_;
};

void print_table_row(const Measurement& m, double bandwidth) {
  const std::string test = m.n_gen == 0 ? fmt::format("pp{}", m.n_prompt)
                                        : fmt::format("tg{} x {} streams", m.n_gen, m.streams);
  std::printf("%-22s %9.2f ± %6.2f tokens/s", test.c_str(), m.mean_rate(), m.deviation());
  if (m.n_gen > 0) {
    const double bound = bandwidth / m.bytes_per_step * m.streams;
    std::printf("   %8.2f MB a step, bound %8.2f tokens/s, %5.1f %% of it", m.bytes_per_step / 1e6,
                bound, 100.0 * m.mean_rate() / bound);
  }
  std::printf("\n");
  std::fflush(stdout);
}

json::object to_json(const Measurement& m, const BenchOptions& options, const gguf::File& file,
                     double bandwidth) {
  json::array samples_ns, samples_ts;
  double total_ns = 0.0;
  for (const double s : m.seconds) {
    samples_ns.push_back(static_cast<int64_t>(s * 1e9));
    samples_ts.push_back(m.tokens() / s);
    total_ns += s * 1e9;
  }
  json::object line = {
      {"model_filename", json::string(file.path())},
      {"model_size", file.total_bytes()},
      {"cpu_info", platform::read_topology().cpu_name},
      {"n_threads", options.engine.threads},
      {"type_k", options.kv_type},
      {"n_prompt", m.n_prompt},
      {"n_gen", m.n_gen},
      {"n_depth", 0},
      {"streams", m.streams},
      {"avg_ns", static_cast<int64_t>(total_ns / static_cast<double>(m.seconds.size()))},
      {"avg_ts", m.mean_rate()},
      {"stddev_ts", m.deviation()},
      {"samples_ns", samples_ns},
      {"samples_ts", samples_ts},
      {"read_gbps", bandwidth / 1e9},
      {"bytes_per_step", m.bytes_per_step}};
  if (m.n_gen > 0) {
    const double bound = bandwidth / m.bytes_per_step * m.streams;
    line["bandwidth_bound_ts"] = bound;
    line["percent_of_bound"] = 100.0 * m.mean_rate() / bound;
  }
  return line;
}

void bench(BenchOptions options) {
  const std::unique_ptr<gguf::File> file = gguf::File::open(options.gguf_path);
  const int most_streams = *std::max_element(options.streams.begin(), options.streams.end());
  const int longest =
      std::max(options.generate, *std::max_element(options.prompts.begin(), options.prompts.end()));
  const int page_size = 256;
  options.engine.page_size = page_size;
  options.engine.cache_tokens = (longest + page_size - 1) / page_size * page_size * most_streams;
  options.engine.max_step_sequences = most_streams;
  double bandwidth = 0.0;
  {
    platform::ThreadPool pool({.threads = options.engine.threads, .pin = true});
    options.engine.threads = pool.size();
    bandwidth = platform::measure_bandwidth(pool).read;
  }
  const std::unique_ptr<engine::LocalEngine> engine = engine::load(*file, options.engine);
  const bool as_json = options.output == "json";
  if (!as_json) {
    std::printf("%s, %d threads, reads %.1f GB/s\n", platform::read_topology().cpu_name.c_str(),
                options.engine.threads, bandwidth / 1e9);
  }
  Bench run(options, *engine);
  json::array lines;
  const auto report = [&](const Measurement& m) {
    if (as_json) {
      lines.push_back(to_json(m, options, *file, bandwidth));
    } else {
      print_table_row(m, bandwidth);
    }
  };
  for (const int tokens : options.prompts) report(run.prompt(tokens));
  for (const int streams : options.streams) report(run.generation(streams));
  if (as_json) std::printf("%s\n", to_string(lines).c_str());
}

}  // namespace

void add_bench(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<BenchOptions>();
  options->engine.max_step_tokens = 512;
  CLI::App* verb = app.add_subcommand("bench", "speed of prompts and generation, beside its bound");
  verb->add_option(flag("gguf_path"), options->gguf_path, "model file or directory")->required();
  verb->add_option("-p,--prompt", options->prompts, "prompt lengths")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("-n,--generate", options->generate, "tokens to generate in each stream")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--streams", options->streams, "sequences decoded together")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  verb->add_option("-r,--repetitions", options->repetitions, "timed runs of each")
      ->check(CLI::Range(1, 1000));
  verb->add_option("-t,--threads," + flag("cpu_infer"), options->engine.threads, "worker threads")
      ->check(CLI::Range(0, 4096));
  verb->add_option("-o,--output", options->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  verb->add_option(flag("chunk_size"), options->engine.max_step_tokens, "tokens in a step at most")
      ->check(CLI::Range(1, 1 << 16));
  verb->add_option(flag("cpu_isa"), options->engine.cpu_isa, "generic, avx2 or avx512");
  verb->add_option(flag("kv_type"), options->kv_type, "f16, bf16 or f32");
  verb->callback([options, exit_code] {
    options->engine.kv_type = parse_kv_type(options->kv_type);
    bench(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
