// `tandem bench`: prompt and generation speed of the engine without server, beside what bounds it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "base/json.h"
#include "cli/bench/report.h"
#include "cli/flags.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "gguf/synthetic.h"
#include "models/config.h"
#include "platform/topology.h"

namespace tandem::cli {
namespace {

struct BenchOptions {
  std::string gguf_path;
  std::string synthetic;  // instead of the file
  int layers = 0;         // of it; 0: all
  std::vector<int> prompts = {512};
  std::vector<int> streams = {1, 4, 8};
  int generate = 64;
  int depth = 128;  // as the peers' tests of streams have it (llama-batched-bench -npp 128)
  int repetitions = 3;
  bool ops = false;
  bool sample = false;
  std::string output = "table";
  std::string kv_type = "f16";
  engine::Options engine;
};

// 0 in a list of lengths, or as the number of tokens to generate, leaves that part out.
void drop_what_is_off(BenchOptions& o) {
  std::erase(o.prompts, 0);
  if (o.generate == 0) o.streams.clear();
  if (o.prompts.empty() && o.streams.empty()) {
    throw Error("nothing to measure: both -p and -n are 0");
  }
}

void size_cache(BenchOptions& o, const models::ModelConfig& config) {
  int64_t tokens = 0, longest = 0;
  const auto need = [&](int64_t streams, int64_t length) {
    constexpr int64_t kLargestPage = 256;
    tokens =
        std::max(tokens, streams * ((length + kLargestPage - 1) / kLargestPage * kLargestPage));
    longest = std::max(longest, length);
  };
  for (const int prompt : o.prompts) need(1, prompt);
  for (const int streams : o.streams) need(streams, int64_t{o.depth} + o.generate);
  if (longest > config.context) {
    throw Error("sequences of {} tokens: the model's context has {}; lower -p, -n or --depth",
                longest, config.context);
  }
  if (tokens > std::numeric_limits<int32_t>::max()) {
    throw Error("{} tokens in the KV cache; lower -p, -n, --depth or --streams", tokens);
  }
  o.engine.cache_tokens = static_cast<int32_t>(tokens);
  o.engine.max_step_sequences =
      o.streams.empty() ? 1 : *std::max_element(o.streams.begin(), o.streams.end());
}

int64_t parameters_of(const gguf::File& file) {
  int64_t count = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    count += info.tensor.rows() * info.tensor.cols();
  }
  return count;
}

// The machine is measured before the model takes its memory.
bench::Setup describe(BenchOptions& o, const gguf::File& file, const models::ModelConfig& config) {
  const cpu::Table& table = cpu::select(o.engine.cpu_isa);
  platform::ThreadPool pool({.threads = o.engine.threads, .pin = true});
  o.engine.threads = pool.size();
  return {.model_path = std::string(file.path()),
          .model_type = config.architecture,
          .model_bytes = file.total_bytes(),
          .parameters = parameters_of(file),
          .cpu_name = platform::read_topology().cpu_name,
          .cpu_isa = std::string(table.name),
          .threads = pool.size(),
          .chunk_size = o.engine.max_step_tokens,
          .kv_type = o.kv_type,
          .sampled = o.sample,
          .load_seconds = 0.0,
          .machine = bench::measure_machine(pool, table),
          .work = models::work_per_token(file, config)};
}

void run_bench(BenchOptions o) {
  drop_what_is_off(o);
  const std::unique_ptr<gguf::File> file = o.synthetic.empty()
                                               ? gguf::File::open(o.gguf_path)
                                               : gguf::open_synthetic(o.synthetic, o.layers);
  const models::ModelConfig config = models::read_config(*file);
  size_cache(o, config);
  bench::Setup setup = describe(o, *file, config);

  const auto start = std::chrono::steady_clock::now();
  const std::unique_ptr<engine::LocalEngine> engine = engine::load(*file, o.engine);
  setup.load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  const bool as_json = o.output == "json";
  boost::json::array lines;
  const auto report = [&](const bench::Measurement& m) {
    if (as_json) {
      lines.push_back(to_json(m, setup));
    } else {
      print_row(m, setup);
    }
  };
  if (!as_json) print_header(setup);
  bench::Runner runner(*engine,
                       {.repetitions = o.repetitions, .profile = o.ops, .sample = o.sample});
  for (const int tokens : o.prompts) report(runner.prompt(tokens));
  for (const int streams : o.streams) report(runner.generation(streams, o.generate, o.depth));
  if (as_json) std::printf("%s\n", to_string(lines).c_str());
}

}  // namespace

void add_bench(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<BenchOptions>();
  options->engine.max_step_tokens = 512;
  CLI::App* verb = app.add_subcommand("bench", "speed of prompts and generation, beside its bound");
  CLI::Option_group* model = verb->add_option_group("model");
  model->add_option(flag("gguf_path"), options->gguf_path, "model file or directory");
  CLI::Option* synthetic =
      model->add_option("--synthetic", options->synthetic,
                        "instead of a file: a known model's shapes with random weights");
  model->require_option(1);
  verb->add_option("--layers", options->layers, "of a synthetic model: only the first so many")
      ->check(CLI::PositiveNumber)
      ->needs(synthetic);
  verb->add_option("-p,--prompt", options->prompts, "prompt lengths; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("-n,--generate", options->generate, "tokens for each stream to generate")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--streams", options->streams, "sequences that generate together")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  verb->add_option("-d,--depth", options->depth, "tokens of each stream before it generates")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("-r,--repetitions", options->repetitions,
                   "timed runs of each; the median counts")
      ->check(CLI::Range(1, 1000));
  verb->add_option("-t,--threads," + flag("cpu_infer"), options->engine.threads, "worker threads")
      ->check(CLI::Range(0, 4096));
  verb->add_option("-o,--output", options->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  verb->add_flag("--ops", options->ops, "one more run of each, with its time by operator");
  verb->add_flag("--sample", options->sample,
                 "choose a token from each row of logits too, greedily, as a server has to");
  verb->add_option(flag("chunk_size"), options->engine.max_step_tokens, "prompt tokens of a step")
      ->check(CLI::Range(1, 1 << 16));
  verb->add_option(flag("cpu_isa"), options->engine.cpu_isa,
                   "kernels for this instruction set; default: the best that the CPU has");
  add_numa_option(*verb, options->engine.numa);
  add_device_options(*verb, options->engine);
  verb->add_option(flag("kv_type"), options->kv_type, "f16, bf16 or f32");
  verb->callback([options, exit_code] {
    options->engine.kv_type = parse_kv_type(options->kv_type);
    run_bench(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
