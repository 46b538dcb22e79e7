// The flags that say where weights go: ours, the original's and llama.cpp's.
#include "cli/placement_flags.h"

#include <array>
#include <charconv>
#include <string_view>

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/support.h"

namespace tandem::cli {
namespace {

constexpr double kGb = 1e9;

struct Spelling {
  std::string_view single, full;
};
constexpr std::array<Spelling, 4> kSpellings = {{{"-ot", "--override-tensor"},
                                                 {"-ncmoe", "--n-cpu-moe"},
                                                 {"-cmoe", "--cpu-moe"},
                                                 {"-ngl", "--n-gpu-layers"}}};

int parse_streaming(const std::string& text) {
  if (text == "auto") return engine::Options::kMeasured;
  if (text == "off") return engine::Options::kNever;
  int tokens = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), tokens);
  if (error != std::errc() || end != text.data() + text.size() || tokens < 0 || tokens > 1 << 16) {
    throw Error("--stream_experts {}: known are auto, off and a number of tokens up to {}", text,
                1 << 16);
  }
  return tokens;
}

}  // namespace

std::vector<std::string> expand_spellings(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  for (std::string& argument : arguments) {
    for (const Spelling& spelling : kSpellings) {
      if (argument == spelling.single) argument = spelling.full;
    }
  }
  return arguments;
}

void add_device_options(CLI::App& verb, engine::Options& options) {
  models::PlacementWishes& wishes = options.placement;
  verb.add_option("--device", options.device,
                  "auto: the GPU where there is one that the model runs on; cpu; cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  CLI::Option* cpu_moe = verb.add_flag_callback(
      flag("cpu_moe"),
      [&wishes] { wishes.cpu_expert_layers = models::PlacementWishes::kAllLayers; },
      "keep routed experts in host memory even if they fit into the GPU's (-cmoe)");
  verb.add_option("--n-cpu-moe,--n_cpu_moe", wishes.cpu_expert_layers,
                  "keep the routed experts of the first so many layers in host memory (-ncmoe)")
      ->check(CLI::Range(0, models::PlacementWishes::kAllLayers))
      ->excludes(cpu_moe)
      ->default_str("0");
  verb.add_option_function<std::vector<std::string>>(
          "--override-tensor,--override_tensor",
          [&wishes](const std::vector<std::string>& values) {
            for (const std::string& value : values) {
              for (models::PlacementRule& rule : models::parse_rules(value, "--override-tensor")) {
                wishes.rules.push_back(std::move(rule));
              }
            }
          },
          "REGEX=CPU or REGEX=CUDA0 on names of tensors, several with commas; the first that "
          "matches decides (-ot)")
      ->take_all()
      ->allow_extra_args(false);
  verb.add_option("--n-gpu-layers,--n_gpu_layers", wishes.gpu_layers,
                  "the last so many layers on the GPU, the others on the CPU; the output counts as "
                  "the last, so 0 is the CPU alone, more than the model has layers all on the GPU "
                  "(-ngl)")
      ->check(CLI::Range(0, models::PlacementWishes::kAllLayers))
      ->default_str("");
  verb.add_option(flag("optimize_config_path"), wishes.rule_file,
                  "YAML file of placement rules, the original's or lines of 'regex: device'");
  verb.add_option_function<double>(
          flag("gpu_memory_gb"),
          [&options](double value) {
            options.gpu_memory_bytes = static_cast<int64_t>(value * kGb);
          },
          "behave as on a GPU with so many GB for this program; 0: all that is free")
      ->check(CLI::NonNegativeNumber)
      ->default_str("0");
  verb.add_option(flag("defer_experts"), options.defer_experts,
                  "experts of each token that the CPU adds one layer later, while the GPU goes on; "
                  "changes results (0: none)")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  verb.add_option_function<std::string>(
          flag("hot_experts"),
          [&options](const std::string& value) {
            options.hot.on = value != "off";
            options.hot.file = value == "auto" || value == "off" ? "" : value;
          },
          "GPU memory that is left holds copies of the experts in host memory that are used most: "
          "auto, off, or a file that keeps their counts from run to run")
      ->default_str("auto");
  verb.add_option_function<double>(
          flag("hot_gpu_gb"),
          [&options](double value) { options.hot.gpu_bytes = static_cast<int64_t>(value * kGb); },
          "of the GPU's memory for hot experts at most; 0: what is left")
      ->check(CLI::NonNegativeNumber)
      ->default_str("0");
  verb.add_option_function<std::string>(
          flag("stream_experts"),
          [&options](const std::string& value) { options.stream_experts = parse_streaming(value); },
          "prompts copy the CPU's experts to the GPU and run them there: auto, in steps of so many "
          "tokens that it is quicker, as measured at start; off; or in steps of at least N tokens")
      ->default_str("auto");
}

}  // namespace tandem::cli
