// `tandem serve`: the flags of KTransformers v0.2.4 with their names and meanings, wired to engine,
// scheduler and server.
#include <optional>
#include <thread>

#include <CLI/CLI.hpp>
#include <malloc.h>
#include <yaml-cpp/yaml.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/flags.h"
#include "cli/model_files.h"
#include "cli/page_disk.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "engine/failing_engine.h"
#include "engine/load.h"
#include "scheduler/scheduler.h"
#include "server/server.h"

namespace tandem::cli {
namespace {

constexpr int kLargeBlock = 1 << 20;
constexpr double kGb = 1e9;

struct ServeOptions {
  std::string gguf_path, model_path, model_name;
  std::string backend_type = "balance_serve";
  std::string sched_strategy = "FCFS";
  std::string kv_type = "f16";
  std::string log_level = "info";
  int cache_lens = 32768;
  int long_chunk_size = 0;
  double host_cache_gb = 0.0;
  std::string kv_cache_dir;
  std::string cache_scope = "shared";
  double disk_cache_gb = 10.0;
  int64_t fail_step = 0;  // 0: none
  engine::Options engine;
  scheduler::Options scheduler;
  server::Options server;
};

// Flags of the original that make no sense here, and why.
struct RefusedFlag {
  const char* name;
  const char* reason;
};
constexpr RefusedFlag kRefused[] = {
    {"model_dir", "use --model_path"},
    {"web", "there is no web page yet"},
    {"memory_gpu_only", "there is no GPU cache in this build"},
    {"utilization_percentage", "the cache's size is --cache_lens"},
    {"cpu_memory_size_GB", "use --host_cache_gb"},
    {"batch_size", "use --max_batch_size"},
    {"db_type", "tandem keeps no database"},
    {"db_host", "tandem keeps no database"},
    {"db_port", "tandem keeps no database"},
    {"db_name", "tandem keeps no database"},
    {"db_pool_size", "tandem keeps no database"},
    {"db_database", "tandem keeps no database"},
    {"log_dir", "logs go to standard error"},
    {"log_file", "logs go to standard error"},
    {"backup_count", "logs go to standard error"},
    {"file_upload_dir", "tandem has no assistants"},
    {"assistant_store_dir", "tandem has no assistants"},
    {"prompt_file", "use 'tandem chat'"},
    {"user_secret_key", "use --api_key"},
    {"user_algorithm", "use --api_key"},
};
// Flags that the original took over from another program and never used.
constexpr const char* kDead[] = {
    "json_mode",
    "healing",
    "ban_strings",
    "gpu_split",
    "length",
    "rope_scale",
    "rope_alpha",
    "no_flash_attn",
    "low_mem",
    "experts_per_token",
    "load_q4",
    "fast_safetensors",
    "draft_model_dir",
    "no_draft_scale",
    "modes",
    "mode",
    "username",
    "botname",
    "system_prompt",
    "smoothing_factor",
    "dynamic_temperature",
    "top_a",
    "skew",
    "typical",
    "frequency_penalty",
    "presence_penalty",
    "response_chunk",
    "no_code_formatting",
    "cache_8bit",
    "cache_q4",
    "ngram_decoding",
    "print_timings",
    "amnesia",
};

// With a value or without one.
void refuse(CLI::App* verb, const std::string& name, const std::string& reason) {
  verb->add_option_function<std::string>(
          flag(name),
          [name, reason](const std::string&) {
            throw Error("--{} is not supported: {}", name, reason);
          },
          reason)
      ->expected(0, 1)
      ->group("");
}

// Adds --name (and --na-me) writing to a variable.
template <typename T>
CLI::Option* add(CLI::App* verb, const std::string& name, T& variable, const std::string& help) {
  return verb->add_option(flag(name), variable, help)->capture_default_str();
}

void add_cache_options(CLI::App* verb, ServeOptions& o) {
  verb->add_flag("--prefix_cache,--prefix-cache,!--no-prefix_cache,!--no-prefix-cache",
                 o.scheduler.prefix_cache,
                 "keep pages of the KV cache for prompts that begin alike");
  add(verb, "cache_scope", o.cache_scope,
      "who may share such pages: shared (all), or key (each API key its own)")
      ->check(CLI::IsMember({"shared", "key"}));
  add(verb, "host_cache_gb", o.host_cache_gb, "copies of such pages in host memory, in GB")
      ->check(CLI::NonNegativeNumber);
  add(verb, "kv_cache_dir", o.kv_cache_dir,
      "directory for such pages, which survive a restart; empty: none");
  add(verb, "disk_cache_gb", o.disk_cache_gb, "size of --kv_cache_dir in GB")
      ->check(CLI::PositiveNumber);
}

void add_options(CLI::App* verb, ServeOptions& o) {
  add(verb, "gguf_path", o.gguf_path,
      "weights: a .gguf file, a split set or a directory; without it the default model");
  add(verb, "model_path", o.model_path,
      "directory with config.json and tokenizer.json, used instead of the file's own");
  add(verb, "model_name", o.model_name, "name that answers carry");
  add(verb, "host", o.server.host, "address to listen on");
  add(verb, "port", o.server.port, "port to listen on")->check(CLI::Range(0, 65535));
  add(verb, "api_key", o.server.api_keys,
      "key that all of /v1 requires; give several times for more")
      ->take_all()
      ->allow_extra_args(false);
  add(verb, "ssl_keyfile", o.server.ssl_keyfile, "TLS key, PEM");
  add(verb, "ssl_certfile", o.server.ssl_certfile, "TLS certificate chain, PEM");
  add(verb, "max_new_tokens", o.scheduler.max_new_tokens,
      "output tokens of requests that name no limit")
      ->check(CLI::PositiveNumber);
  add(verb, "cache_lens", o.cache_lens, "KV cache in tokens, shared by all requests")
      ->check(CLI::PositiveNumber);
  add(verb, "chunk_size", o.scheduler.chunk_size, "tokens in a step at most")
      ->check(CLI::Range(1, 1 << 16));
  add(verb, "long_chunk_size", o.long_chunk_size,
      "the same while one request is alive; 0: 4096 where prompts' experts are copied to a GPU, "
      "else --chunk_size")
      ->check(CLI::Range(0, 1 << 16));
  add(verb, "max_batch_size", o.scheduler.max_batch_size, "requests running at once")
      ->check(CLI::Range(1, 1024));
  add(verb, "max_queue", o.scheduler.max_queue, "requests waiting at most; more get 429")
      ->check(CLI::NonNegativeNumber);
  add(verb, "max_running_per_key", o.scheduler.max_running_per_key,
      "requests of one API key running at once; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  add(verb, "max_queue_per_key", o.scheduler.max_queue_per_key,
      "requests of one API key waiting at most; more get 429; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  add_cache_options(verb, o);
  add(verb, "page_size", o.engine.page_size, "tokens in a KV page; 0: what suits the model")
      ->check(CLI::NonNegativeNumber);
  add(verb, "kv_type", o.kv_type,
      "f16, bf16 or f32; MLA stores its own integers for the first two");
  add(verb, "backend_type", o.backend_type, "balance_serve");
  add(verb, "sched_strategy", o.sched_strategy, "FCFS or FCFS-single-prefill");
  verb->add_option(flag("cpu_infer") + ",--threads", o.engine.threads,
                   "worker threads; 0: one for each core")
      ->check(CLI::Range(0, 4096));
  add_numa_option(*verb, o.engine.numa);
  add_device_options(*verb, o.engine);
  add(verb, "cpu_isa", o.engine.cpu_isa,
      "generic, avx2, avx512 or amx; empty: the best of this machine");
  verb->add_flag(
      "--force_think,--force-think,!--no-force_think,!--no_force_think,!--no-force-think",
      o.server.force_think, "open the thinking block in the prompt");
  add(verb, "temperature", o.server.temperature, "where a request gives none")
      ->check(CLI::Range(0.0, 2.0));
  add(verb, "top_p", o.server.top_p, "where a request gives none")->check(CLI::Range(0.0, 1.0));
  add(verb, "top_k", o.server.top_k, "where a request gives none");
  add(verb, "repetition_penalty", o.server.repetition_penalty, "where a request gives none")
      ->check(CLI::PositiveNumber);
  add(verb, "sse_ping", o.server.sse_ping_seconds,
      "seconds of silence before a comment keeps a stream alive; 0: never")
      ->check(CLI::NonNegativeNumber);
  add(verb, "drain_seconds", o.server.drain_seconds, "time for running requests at the end")
      ->check(CLI::NonNegativeNumber);
  add(verb, "request_timeout", o.server.request_timeout,
      "seconds that a request may take, waiting included; 0: no end")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag(flag("debug_steps"), o.server.debug_steps,
                 "answer GET /debug/steps: recent steps as a Chrome trace");
  add(verb, "debug_fail_step", o.fail_step,
      "for tests of what is around the engine: this step and all later ones fail; 0: none")
      ->check(CLI::NonNegativeNumber);
  add(verb, "max_choices", o.server.max_choices, "n of a request at most")
      ->check(CLI::Range(1, 128));
  add(verb, "web_cross_domain", o.server.cross_origin, "let web pages from anywhere call the API");
  verb->add_flag(flag("strict_params"), o.server.strict_params,
                 "unknown request fields are errors, not ignored");
  add(verb, "log_level", o.log_level, "debug, info, warn or error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  // Graphs are the GPU's: on the CPU both settings mean the same.
  verb->add_flag("--use_cuda_graph,--use-cuda-graph,!--no-use_cuda_graph,!--no-use-cuda-graph",
                 o.engine.use_cuda_graph, "on a GPU: replay captured steps of generation")
      ->default_str("on");
  for (const RefusedFlag& refused : kRefused) refuse(verb, refused.name, refused.reason);
  for (const char* name : kDead) refuse(verb, name, "it had no effect in the original either");
}

// Keys of the file are names of flags; the command line wins.
void apply_config(CLI::App* verb, const std::string& path) {
  try {
    const YAML::Node root = YAML::LoadFile(path);
    if (!root.IsMap()) throw Error("{}: must be a map of flags", path);
    for (const auto& entry : root) {
      const auto name = entry.first.as<std::string>();
      CLI::Option* option = verb->get_option_no_throw("--" + name);
      if (option == nullptr) throw Error("{}: there is no flag --{}", path, name);
      if (option->count() > 0) continue;
      option->add_result(entry.second.as<std::string>());
      option->run_callback();
    }
  } catch (const YAML::Exception& error) {
    throw Error("{}: {}", path, error.what());
  }
}

void check_backend(const ServeOptions& o) {
  if (o.backend_type != "balance_serve") {
    throw Error(
        "--backend_type {}: there is one engine here, known to the original as balance_serve",
        o.backend_type);
  }
  if (o.sched_strategy != "FCFS" && o.sched_strategy != "FCFS-single-prefill") {
    throw Error("--sched_strategy {}: known are FCFS and FCFS-single-prefill", o.sched_strategy);
  }
}

log::Level parse_level(const std::string& name) {
  if (name == "debug") return log::Level::kDebug;
  if (name == "warn") return log::Level::kWarn;
  return name == "error" ? log::Level::kError : log::Level::kInfo;
}

void report_concurrency(const ServeOptions& o, const engine::EngineInfo& info) {
  const int64_t tokens = int64_t{info.num_pages} * info.page_size;
  const int alone = std::max(o.scheduler.chunk_size, o.scheduler.long_chunk_size);
  log::info(
      "KV cache: {} tokens in {} pages of {}; steps of up to {} tokens{}, {} requests at once",
      tokens, info.num_pages, info.page_size, o.scheduler.chunk_size,
      alone > o.scheduler.chunk_size ? fmt::format(" ({} for one alone)", alone) : "",
      o.scheduler.max_batch_size);
  const int64_t wanted = int64_t{o.scheduler.max_batch_size} * o.scheduler.max_new_tokens;
  if (tokens <= wanted) {
    log::warn(
        "cache_lens {} <= max_batch_size {} x max_new_tokens {}: room for {} requests of full "
        "length at once; "
        "more run by turns",
        tokens, o.scheduler.max_batch_size, o.scheduler.max_new_tokens,
        std::max<int64_t>(1, tokens / o.scheduler.max_new_tokens));
  }
}

// The tiers below the engine's pages: sizes and names into `o`, the disk as the result.
std::unique_ptr<scheduler::PageDisk> set_up_tiers(ServeOptions& o, const gguf::File& model,
                                                  const engine::EngineInfo& info) {
  if (!o.scheduler.prefix_cache) {
    if (o.host_cache_gb > 0.0 || !o.kv_cache_dir.empty()) {
      throw Error("--host_cache_gb and --kv_cache_dir need the prefix cache, which is off");
    }
    return nullptr;
  }
  o.scheduler.host_cache_bytes = static_cast<int64_t>(o.host_cache_gb * kGb);
  if (o.host_cache_gb > 0.0 && o.scheduler.host_cache_bytes < info.page_bytes) {
    throw Error("--host_cache_gb {}: a page has {} bytes", o.host_cache_gb, info.page_bytes);
  }
  if (o.kv_cache_dir.empty()) return nullptr;
  o.scheduler.model_identity = page_identity(model, info);
  return open_page_disk(o.kv_cache_dir, static_cast<int64_t>(o.disk_cache_gb * kGb),
                        info.page_bytes, o.scheduler.model_identity);
}

// A line for each tenth.
std::function<void(double, const std::string&)> progress_reporter(server::Server& server) {
  return [&server, last = -1](double share, const std::string& what) mutable {
    server.set_progress(share);
    const int tenth = static_cast<int>(share * 10.0);
    if (server.is_stopping()) throw Error("stopped while the model was loading");
    if (tenth == last) return;
    last = tenth;
    log::info("{} {:3.0f} %", what, share * 100.0);
  };
}

// Runs the server beside the loading of the model; an Error there ends it.
class ServerThread {
 public:
  explicit ServerThread(server::Server& server)
      : server_(server), thread_([&server] { server.run(); }) {}
  ~ServerThread() {
    if (!thread_.joinable()) return;
    server_.stop();
    thread_.join();
  }
  void wait() { thread_.join(); }

 private:
  server::Server& server_;
  std::thread thread_;
};

void serve(ServeOptions o) {
  // A body of that size goes back to the system when it is freed. By itself the C library raises
  // this threshold with each large block and keeps the memory of all.
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  log::set_level(parse_level(o.log_level));
  check_backend(o);
  o.server.share_cache = o.cache_scope == "shared";
  server::Server server(o.server);
  log::info("listening on {} port {}", o.server.host, server.port());

  // Destroyed in reverse: the server ends first, then the scheduler, then the engine and the mapped
  // weights.
  ModelFiles files;
  std::unique_ptr<engine::LocalEngine> engine;
  std::optional<engine::FailingEngine> failing;
  std::unique_ptr<scheduler::Scheduler> scheduler;
  ServerThread running(server);
  files = open_model(o.gguf_path, o.model_path);
  o.engine.kv_type = parse_kv_type(o.kv_type);
  o.engine.cache_tokens = o.cache_lens;
  o.engine.max_step_tokens = o.scheduler.chunk_size;
  o.engine.long_step_tokens =
      o.long_chunk_size > 0 ? o.long_chunk_size : engine::Options::kLongWhereStreamed;
  o.engine.max_step_sequences = o.scheduler.max_batch_size;
  o.engine.other_memory_bytes = static_cast<int64_t>(o.host_cache_gb * kGb);
  o.engine.on_progress = progress_reporter(server);
  o.scheduler.strategy = o.sched_strategy == "FCFS" ? scheduler::Strategy::kFcfs
                                                    : scheduler::Strategy::kFcfsSinglePrefill;
  log::info("loading {}", files.weights->path());
  try {
    engine = engine::load(*files.weights, o.engine);
  } catch (const Error& error) {
    if (!server.is_stopping()) throw;
    log::info("{}", error.what());
    return;
  }
  o.scheduler.long_chunk_size = engine->info().max_step_tokens;
  report_concurrency(o, engine->info());
  o.scheduler.on_fatal = [&server](const std::string& what) {
    log::error("the engine has failed: {}; the server ends", what);
    server.fail(what);
  };
  const engine::EngineInfo& info = engine->info();
  std::unique_ptr<scheduler::PageDisk> disk = set_up_tiers(o, *files.weights, info);
  engine::Engine* steps = engine.get();
  if (o.fail_step > 0) steps = &failing.emplace(*engine, o.fail_step);
  scheduler = scheduler::Scheduler::start(*steps, o.scheduler, std::move(disk));

  const auto room = static_cast<int32_t>(
      std::min<int64_t>(info.context_length, int64_t{info.num_pages} * info.page_size));
  server.set_model({.name = o.model_name.empty() ? files.name : o.model_name,
                    .tokenizer = files.tokenizer,
                    .chat_template = files.chat_template,
                    .chat_template_error = files.chat_template_error,
                    .output_format = files.chat_template == nullptr
                                         ? chat::OutputFormat{}
                                         : chat::detect_format(files.chat_template->source()),
                    .context_length = room,
                    .vocab_size = info.vocab_size,
                    .created = std::time(nullptr),
                    .file_bytes = static_cast<int64_t>(files.weights->total_bytes())},
                   *scheduler);
  log::info("serving '{}' ({}) on http{}://{}:{}/v1",
            o.model_name.empty() ? files.name : o.model_name, engine->architecture(),
            o.server.ssl_certfile.empty() ? "" : "s", o.server.host, server.port());
  running.wait();
  if (const std::string failure = server.failure(); !failure.empty()) {
    throw Error("ended because the engine failed: {}", failure);
  }
}

}  // namespace

void add_serve(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<ServeOptions>();
  auto config = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand("serve", "serve a model over the OpenAI API");
  add_options(verb, *options);
  verb->add_option("--config", *config, "YAML file whose keys are names of flags");
  verb->callback([verb, options, config, exit_code] {
    if (!config->empty()) apply_config(verb, *config);
    options->engine.cache_is_fixed = verb->get_option("--cache_lens")->count() > 0;
    serve(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
