// `tandem plan`: where a model's weights would go, what memory that takes, and how fast it would
// be, before anything is loaded.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "engine/machine_speeds.h"
#include "engine/plan_for.h"
#include "engine/prediction.h"
#include "gguf/file.h"
#include "gguf/synthetic.h"
#include "models/config.h"
#include "platform/thread_pool.h"
#include "platform/topology.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct PlanOptions {
  std::string gguf_path, synthetic;
  int layers = 0;
  std::vector<int> prompts = {512};
  std::vector<int> streams = {1, 4, 8};
  int depth = 128;
  double spread = 0.0;
  double read_gbps = 0.0, peak_tops = 0.0;  // of the CPU; 0: measured
  std::string kv_type = "f16";
  std::string output = "table";
  engine::Options engine;
};

struct Alternative {
  std::string name;
  engine::Plan plan;
  bool fits = true;
};

bool fits(const engine::Plan& plan, const engine::PlanRequest& request, int64_t host_bytes) {
  const bool gpu = !plan.on_gpu || (request.gpu_bytes && plan.gpu.total() <= *request.gpu_bytes);
  return gpu && plan.host.total() <= host_bytes;
}

// The plan first, then what else there is.
std::vector<Alternative> alternatives(const engine::Planned& planned, int64_t host_bytes) {
  const engine::ModelSizes& model = planned.sizes;
  const engine::PlanRequest& request = planned.request;
  std::vector<Alternative> list = {{"planned", planned.plan, true}};
  list.front().fits = fits(planned.plan, request, host_bytes);
  const auto add = [&](engine::Plan plan) {
    for (const Alternative& known : list) {
      if (known.plan.on_gpu == plan.on_gpu && known.plan.cpu_layers == plan.cpu_layers &&
          known.plan.expert_layers_on_gpu == plan.expert_layers_on_gpu) {
        return;
      }
    }
    const bool fit = fits(plan, request, host_bytes);
    list.push_back({plan.summary(), std::move(plan), fit});
  };
  if (request.gpu_bytes) {
    const auto layers = static_cast<int>(
        std::count_if(model.layers.begin(), model.layers.end(),
                      [](const engine::LayerSizes& layer) { return layer.experts_bytes > 0; }));
    add(engine::plan_with_experts(model, request, layers));
    if (layers > 0) add(engine::plan_with_experts(model, request, layers / 2));
    add(engine::plan_with_experts(model, request, 0));
    if (std::optional<engine::Plan> last = engine::plan_with_last_layers(model, request)) {
      add(std::move(*last));
    }
  }
  add(engine::plan_on_cpu(model, request));
  return list;
}

engine::MachineSpeeds measure(PlanOptions& o, bool with_gpu) {
  platform::ThreadPool pool({.threads = o.engine.threads, .pin = true});
  o.engine.threads = pool.size();
  return engine::measure_speeds(
      pool, cpu::select(o.engine.cpu_isa), with_gpu,
      {.host_read = o.read_gbps * 1e9, .host_int8 = o.peak_tops * 1e12, .isa = ""});
}

struct Line {
  std::string test;
  engine::Prediction prediction;
};

std::vector<Line> predictions(const PlanOptions& o, const engine::ModelSizes& model,
                              const engine::Plan& plan, const engine::MachineSpeeds& speeds) {
  std::vector<Line> lines;
  for (const int prompt : o.prompts) {
    if (prompt == 0) continue;
    lines.push_back({fmt::format("pp{}", prompt), predict(model, plan, speeds,
                                                          {.prompt = prompt,
                                                           .chunk = o.engine.max_step_tokens,
                                                           .depth = 0,
                                                           .spread = o.spread})});
  }
  for (const int streams : o.streams) {
    lines.push_back(
        {fmt::format("tg x {}", streams),
         predict(model, plan, speeds, {.streams = streams, .depth = o.depth, .spread = o.spread})});
  }
  return lines;
}

double gb(int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

void print_memory(const char* side, const engine::MemoryUse& use, int64_t available) {
  std::printf("%-5s %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f %9.2f\n", side, gb(use.fixed),
              gb(use.experts), gb(use.hot), gb(use.cache), gb(use.work), gb(use.total()),
              gb(available));
}

// Runs of layers with the same side: "layers 1-12: CPU".
std::string by_layer(size_t layers, const std::function<std::string_view(size_t layer)>& side) {
  std::string text;
  for (size_t begin = 0; begin < layers;) {
    size_t end = begin + 1;
    while (end < layers && side(end) == side(begin)) ++end;
    const std::string range =
        end - begin == 1 ? std::to_string(begin) : fmt::format("{}-{}", begin, end - 1);
    text += fmt::format("{}layers {}: {}", text.empty() ? "" : ", ", range, side(begin));
    begin = end;
  }
  return text;
}

std::string experts_by_layer(const engine::ModelSizes& model, const engine::Plan& plan) {
  return by_layer(model.layers.size(), [&](size_t i) {
    if (model.layers[i].experts_bytes == 0) return "none";
    return plan.on_gpu && plan.experts[i] == Device::kCuda ? "GPU" : "CPU";
  });
}

struct Report {
  const PlanOptions& options;
  const engine::Planned& planned;
  const engine::MachineSpeeds& speeds;
  std::vector<Alternative> list;
  int64_t host_bytes;
  std::string path, gpu_name;

  std::string gpu_line() const {
    if (planned.gpu) {
      return fmt::format(
          "{}: {:.1f} GB free, memory {:.0f} GB/s, bus {:.1f} GB/s, bf16 {:.0f} TFLOPS", gpu_name,
          gb(*planned.request.gpu_bytes), speeds.gpu_memory / 1e9, speeds.gpu_upload / 1e9,
          speeds.gpu_bf16 / 1e12);
    }
    std::string line =
        planned.request.no_gpu.empty() ? "the GPU is not asked for" : planned.request.no_gpu;
    if (options.engine.gpu_memory_bytes > 0)
      line += "; --gpu_memory_gb changes nothing without one";
    return line;
  }
};

void print_table(const Report& r) {
  const engine::ModelSizes& model = r.planned.sizes;
  const engine::Plan& plan = r.planned.plan;
  std::printf("%s\n", r.path.c_str());
  std::printf("CPU: %d threads, %s, reads %.1f GB/s, int8 peak %.2f TOPS\n",
              r.options.engine.threads, r.speeds.isa.c_str(), r.speeds.host_read / 1e9,
              r.speeds.host_int8 / 1e12);
  std::printf("GPU: %s\n", r.gpu_line().c_str());
  std::printf("plan: %s%s%s\n", plan.summary().c_str(), plan.reason.empty() ? "" : "; ",
              plan.reason.c_str());
  for (const std::string& note : r.planned.request.fixed.notes) {
    std::printf("note: %s\n", note.c_str());
  }
  if (plan.cpu_layers > 0) {
    const auto first = static_cast<size_t>(plan.cpu_layers);
    std::printf("embedding: CPU, %s, output: GPU\n", by_layer(model.layers.size(), [&](size_t i) {
                                                       return i < first ? "CPU" : "GPU";
                                                     }).c_str());
  }
  if (model.experts > 0) {
    std::printf("experts: %s\n", experts_by_layer(model, plan).c_str());
    if (plan.streams()) {
      std::printf("prompts: experts on the CPU are copied to the GPU where that is quicker\n");
    }
    if (plan.on_gpu) {
      std::printf("steps of one prompt alone: %d tokens\n", r.options.engine.max_step_tokens);
    }
    const double spread = r.options.spread > 0.0 ? r.options.spread : model.experts;
    std::printf("distinct experts of %d in a layer, tokens spread evenly over %.0f:", model.experts,
                spread);
    for (const int streams : r.options.streams) {
      std::printf("  %.1f with %d", engine::expected_experts(spread, model.used, streams), streams);
    }
    std::printf("\n");
  }
  std::printf("\n%-5s %9s %9s %9s %9s %9s %9s %9s   KV cache of %d tokens\n", "GB", "weights",
              "experts", "hot", "KV cache", "working", "in all", "free", plan.cache_tokens);
  if (plan.on_gpu) print_memory("GPU", plan.gpu, *r.planned.request.gpu_bytes);
  print_memory("CPU", plan.host, r.host_bytes);
  std::printf("\npredicted tokens/s\n");
  for (const Alternative& a : r.list) {
    std::printf("  %s%s\n   ", a.name.c_str(), a.fits ? "" : " (does not fit)");
    for (const Line& line : predictions(r.options, model, a.plan, r.speeds)) {
      std::printf(" %s %.1f  ", line.test.c_str(), line.prediction.tokens_per_second);
    }
    std::printf("\n");
  }
}

json::object to_json(const engine::MemoryUse& use) {
  return {{"weights", use.fixed}, {"experts", use.experts}, {"hot_experts", use.hot},
          {"cache", use.cache},   {"working", use.work},    {"total", use.total()}};
}

json::object to_json(const Report& r, const Alternative& a) {
  const auto layers = static_cast<int>(r.planned.sizes.layers.size());
  json::array experts, lines;
  for (size_t i = 0; i < a.plan.experts.size(); ++i) {
    const bool none = r.planned.sizes.layers[i].experts_bytes == 0;
    const bool gpu = a.plan.on_gpu && a.plan.experts[i] == Device::kCuda;
    experts.push_back(none ? json::value(nullptr) : json::value(gpu ? "cuda" : "cpu"));
  }
  for (const Line& line : predictions(r.options, r.planned.sizes, a.plan, r.speeds)) {
    lines.push_back(json::object{{"test", line.test},
                                 {"tokens_per_second", line.prediction.tokens_per_second},
                                 {"cpu_seconds", line.prediction.cpu},
                                 {"gpu_seconds", line.prediction.gpu},
                                 {"hand_off_seconds", line.prediction.hand_offs},
                                 {"copy_seconds", line.prediction.copies}});
  }
  json::object out = {{"name", a.name},
                      {"summary", a.plan.summary()},
                      {"reason", a.plan.reason},
                      {"fits", a.fits},
                      {"device", a.plan.on_gpu ? "cuda" : "cpu"},
                      {"cpu_layers", a.plan.on_gpu ? a.plan.cpu_layers : layers},
                      {"cache_tokens", a.plan.cache_tokens},
                      {"streams", a.plan.streams()},
                      {"experts", std::move(experts)},
                      {"host_bytes", to_json(a.plan.host)},
                      {"predictions", std::move(lines)}};
  if (a.plan.on_gpu) out["gpu_bytes"] = to_json(a.plan.gpu);
  return out;
}

void print_json(const Report& r) {
  json::array others, notes, distinct;
  const engine::ModelSizes& model = r.planned.sizes;
  const double spread = r.options.spread > 0.0 ? r.options.spread : model.experts;
  for (const int streams : r.options.streams) {
    distinct.push_back(json::object{
        {"streams", streams}, {"experts", engine::expected_experts(spread, model.used, streams)}});
  }
  for (size_t i = 1; i < r.list.size(); ++i) others.push_back(to_json(r, r.list[i]));
  for (const std::string& note : r.planned.request.fixed.notes) notes.push_back(json::string(note));
  json::object machine = {
      {"threads", r.options.engine.threads},   {"cpu_isa", r.speeds.isa},
      {"read_gbps", r.speeds.host_read / 1e9}, {"peak_tops", r.speeds.host_int8 / 1e12},
      {"host_free_bytes", r.host_bytes},       {"gpu", r.gpu_line()}};
  if (r.planned.request.gpu_bytes) {
    machine["gpu_free_bytes"] = *r.planned.request.gpu_bytes;
    machine["gpu_memory_gbps"] = r.speeds.gpu_memory / 1e9;
    machine["gpu_upload_gbps"] = r.speeds.gpu_upload / 1e9;
    machine["gpu_bf16_tflops"] = r.speeds.gpu_bf16 / 1e12;
  }
  std::printf("%s\n", to_string(json::object{{"model_filename", r.path},
                                             {"machine", std::move(machine)},
                                             {"notes", std::move(notes)},
                                             {"distinct_experts", std::move(distinct)},
                                             {"plan", to_json(r, r.list.front())},
                                             {"alternatives", std::move(others)}})
                          .c_str());
}

void run_plan(PlanOptions o) {
  const std::unique_ptr<gguf::File> file = o.synthetic.empty()
                                               ? gguf::File::open(o.gguf_path)
                                               : gguf::open_synthetic(o.synthetic, o.layers);
  const models::ModelConfig config = models::read_config(*file);
  std::optional<engine::MachineSpeeds> speeds;
  const auto measured = [&](bool with_gpu) -> const engine::MachineSpeeds& {
    if (!speeds) speeds = measure(o, with_gpu);
    return *speeds;
  };
  engine::Planned planned =
      engine::plan_for(*file, config, o.engine, [&] { return measured(true); });
  o.engine.max_step_tokens = planned.step_tokens;  // as of a prompt alone
  const int64_t host_bytes = platform::read_topology().available_bytes;
  Report report{.options = o,
                .planned = planned,
                .speeds = measured(planned.request.gpu_bytes.has_value()),
                .list = alternatives(planned, host_bytes),
                .host_bytes = host_bytes,
                .path = std::string(file->path()),
                .gpu_name = planned.gpu ? planned.gpu->name() : ""};
  if (o.output == "json") {
    print_json(report);
  } else {
    print_table(report);
  }
}

}  // namespace

void add_plan(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<PlanOptions>();
  options->engine.cache_tokens = 32768;
  CLI::App* verb = app.add_subcommand(
      "plan", "where weights would go and how fast it would be, loading nothing");
  CLI::Option_group* model = verb->add_option_group("model");
  model->add_option(flag("gguf_path"), options->gguf_path, "model file or directory");
  CLI::Option* synthetic = model->add_option("--synthetic", options->synthetic,
                                             "instead of a file: a known model's shapes");
  model->require_option(1);
  verb->add_option("--layers", options->layers, "of a synthetic model: only the first so many")
      ->check(CLI::PositiveNumber)
      ->needs(synthetic);
  add_device_options(*verb, options->engine);
  CLI::Option* cache =
      verb->add_option(flag("cache_lens"), options->engine.cache_tokens, "KV cache in tokens")
          ->check(CLI::PositiveNumber);
  verb->add_option(flag("chunk_size"), options->engine.max_step_tokens, "tokens in a step at most")
      ->check(CLI::Range(1, 1 << 16));
  options->engine.long_step_tokens = engine::Options::kLongWhereStreamed;
  verb->add_option_function<int32_t>(
          flag("long_chunk_size"),
          [options](int32_t tokens) {
            options->engine.long_step_tokens =
                tokens > 0 ? tokens : engine::Options::kLongWhereStreamed;
          },
          "the same while one request is alive; 0: 4096 where prompts' experts are copied to a "
          "GPU, else --chunk_size")
      ->check(CLI::Range(0, 1 << 16))
      ->default_str("0");
  verb->add_option(flag("max_batch_size"), options->engine.max_step_sequences,
                   "requests running at once")
      ->check(CLI::Range(1, 1024));
  verb->add_option("-p,--prompt", options->prompts, "prompt lengths to predict; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--streams", options->streams, "sequences that generate together")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  verb->add_option("-d,--depth", options->depth, "tokens of each stream before it generates")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--spread", options->spread,
                   "experts of a layer that tokens are spread over evenly; 0: all")
      ->check(CLI::NonNegativeNumber);
  verb->add_option(flag("read_gbps"), options->read_gbps,
                   "predict for a CPU that reads so many GB/s; 0: as measured")
      ->check(CLI::NonNegativeNumber);
  verb->add_option(flag("peak_tops"), options->peak_tops,
                   "and makes so many int8 operations a second, in 10^12; 0: as measured")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("-t,--threads," + flag("cpu_infer"), options->engine.threads, "worker threads")
      ->check(CLI::Range(0, 4096));
  verb->add_option(flag("cpu_isa"), options->engine.cpu_isa,
                   "kernels for this instruction set; default: the best that the CPU has");
  verb->add_option(flag("kv_type"), options->kv_type, "f16, bf16 or f32");
  verb->add_option("-o,--output", options->output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  verb->callback([options, cache, exit_code] {
    options->engine.kv_type = parse_kv_type(options->kv_type);
    options->engine.cache_is_fixed = cache->count() > 0;
    run_plan(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
