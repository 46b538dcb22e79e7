// `tandem inspect`: what a GGUF file holds.
#include <cstdio>
#include <map>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/json.h"
#include "cli/flags.h"
#include "cli/verbs.h"
#include "gguf/file.h"
#include "gguf/synthetic.h"
#include "quant/types.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

constexpr size_t kShownItems = 6;   // of a long array
constexpr size_t kShownText = 100;  // bytes of a long string

json::value scalar_json(const gguf::Value& value) {
  return std::visit(
      [](const auto& v) -> json::value {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          return json::string(v);
        } else if constexpr (std::is_same_v<T, std::shared_ptr<gguf::Array>>) {
          return nullptr;
        } else {
          return json::value(v);
        }
      },
      value);
}

json::array items_json(const gguf::Array& array, size_t most) {
  json::array items;
  std::visit(
      [&](const auto& values) {
        for (size_t i = 0; i < values.size() && i < most; ++i) {
          using T = typename std::decay_t<decltype(values)>::value_type;
          if constexpr (std::is_same_v<T, std::string_view>) {
            items.push_back(json::string(values[i]));
          } else {
            items.push_back(json::value(static_cast<T>(values[i])));
          }
        }
      },
      array.items);
  return items;
}

// One line for a person: long texts and arrays shortened.
std::string shown(const gguf::Value& value) {
  if (const auto* array = std::get_if<std::shared_ptr<gguf::Array>>(&value)) {
    std::string text = to_string(items_json(**array, kShownItems));
    if ((*array)->size() > kShownItems) {
      text.back() = ' ';
      text += fmt::format("... {} items]", (*array)->size());
    }
    return text;
  }
  std::string text = to_string(scalar_json(value));
  if (text.size() > kShownText) text = text.substr(0, kShownText) + "...";
  return text;
}

json::array shape_json(const Tensor& tensor) {
  json::array dims;
  for (const int64_t dim : tensor.shape.dim) {
    if (!dims.empty() || dim != 1) dims.push_back(dim);
  }
  if (dims.empty()) dims.push_back(1);
  return dims;
}

void print_json(const gguf::File& file) {
  json::object metadata;
  for (const gguf::Entry& entry : file.metadata()) {
    const auto* array = std::get_if<std::shared_ptr<gguf::Array>>(&entry.value);
    metadata[entry.key] = array != nullptr ? json::value(items_json(**array, (*array)->size()))
                                           : scalar_json(entry.value);
  }
  json::array tensors;
  for (const gguf::TensorInfo& info : file.tensors()) {
    tensors.push_back({{"name", json::string(info.name)},
                       {"type", json::string(quant::traits(info.tensor.dtype).name)},
                       {"shape", shape_json(info.tensor)},
                       {"bytes", info.bytes},
                       {"file", info.file_index}});
  }
  const json::object all = {{"path", json::string(file.path())},
                            {"version", file.version()},
                            {"bytes", file.total_bytes()},
                            {"metadata", metadata},
                            {"tensors", tensors}};
  std::printf("%s\n", to_string(all).c_str());
}

void print_table(const gguf::File& file) {
  std::printf("%s: GGUF version %u, %.2f MiB, %zu metadata entries, %zu tensors\n\n",
              std::string(file.path()).c_str(), file.version(),
              static_cast<double>(file.total_bytes()) / (1 << 20), file.metadata().size(),
              file.tensors().size());
  for (const gguf::Entry& entry : file.metadata()) {
    std::printf("%-50s %s\n", std::string(entry.key).c_str(), shown(entry.value).c_str());
  }
  struct Sum {
    size_t tensors = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string_view, Sum> sums;
  std::printf("\n%-40s %-8s %-24s %12s\n", "tensor", "type", "shape", "bytes");
  for (const gguf::TensorInfo& info : file.tensors()) {
    const std::string_view type = quant::traits(info.tensor.dtype).name;
    std::printf("%-40s %-8s %-24s %12lu\n", std::string(info.name).c_str(),
                std::string(type).c_str(), to_string(shape_json(info.tensor)).c_str(), info.bytes);
    ++sums[type].tensors;
    sums[type].bytes += info.bytes;
  }
  std::printf("\n%-8s %8s %12s\n", "type", "tensors", "MiB");
  for (const auto& [type, sum] : sums) {
    std::printf("%-8s %8zu %12.2f\n", std::string(type).c_str(), sum.tensors,
                static_cast<double>(sum.bytes) / (1 << 20));
  }
}

}  // namespace

void add_inspect(CLI::App& app, int* exit_code) {
  struct Options {
    std::string path;
    std::string synthetic;
    int layers = 0;
    bool as_json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("inspect", "print the metadata and tensors of a GGUF file");
  CLI::Option_group* model = verb->add_option_group("model");
  model->add_option("file,--gguf_path,--gguf-path", options->path, "model file or directory");
  CLI::Option* synthetic = model->add_option(
      "--synthetic", options->synthetic, "instead of a file: a known model with random weights");
  model->require_option(1);
  verb->add_option("--layers", options->layers, "of a synthetic model: only the first so many")
      ->check(CLI::PositiveNumber)
      ->needs(synthetic);
  verb->add_flag("--json", options->as_json, "everything, as one JSON object");
  verb->callback([options, exit_code] {
    const std::unique_ptr<gguf::File> file =
        options->synthetic.empty() ? gguf::File::open(options->path)
                                   : gguf::open_synthetic(options->synthetic, options->layers);
    options->as_json ? print_json(*file) : print_table(*file);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
