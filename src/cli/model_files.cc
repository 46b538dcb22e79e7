// Finds what a model consists of: weights, tokenizer, chat template.
#include "cli/model_files.h"

#include <filesystem>

#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/support.h"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr const char* kDefaultModel = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

// build/release/tandem finds build/models.
std::string default_model() {
  std::error_code error;
  const fs::path binary = fs::read_symlink("/proc/self/exe", error);
  const fs::path path = binary.parent_path().parent_path() / kDefaultModel;
  if (!fs::exists(path, error)) {
    throw Error(
        "no model given and the default model is not at {}: name one with --gguf_path, or run "
        "'make setup'",
        path.string());
  }
  return path.string();
}

json::object read_json_object(const std::string& path) {
  Result<json::value> parsed = parse_json(read_text_file(path));
  if (!parsed) throw Error("{}: {}", path, parsed.failure().message);
  if (!parsed->is_object()) throw Error("{}: is not a JSON object", path);
  return std::move(parsed->get_object());
}

// config.json must describe the model in the file.
void check_shape(const std::string& path, const gguf::File& file) {
  const json::object config = read_json_object(path);
  const std::string architecture(file.get_string("general.architecture"));
  const auto check = [&](const char* name, uint64_t in_file) {
    const json::value* value = config.if_contains(name);
    if (value == nullptr || !value->is_int64()) return;
    if (static_cast<uint64_t>(value->get_int64()) != in_file) {
      throw Error("{}: {} is {}, but {} has {}; they are not the same model", path, name,
                  value->get_int64(), file.path(), in_file);
    }
  };
  check("hidden_size", file.get_u64(architecture + ".embedding_length"));
  check("num_hidden_layers", file.get_u64(architecture + ".block_count"));
  check("num_attention_heads", file.get_u64(architecture + ".attention.head_count"));
  if (const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight")) {
    check("vocab_size", static_cast<uint64_t>(embedding->tensor.rows()));
  }
}

// Forms of known architectures that lead to wrong results, or to a fault that says little.
void refuse_old_and_odd_forms(const gguf::File& file) {
  if (file.find_tensor("blk.0.ffn_gate.0.weight") != nullptr) {
    throw Error(
        "{}: keeps each expert in a tensor of its own, as files from before April 2024 do; convert "
        "the model anew",
        file.path());
  }
  const std::string architecture(file.get_string_or("general.architecture", ""));
  if (file.find_tensor("rope_factors_long.weight") != nullptr ||
      file.get_string_or(architecture + ".rope.scaling.type", "") == "longrope") {
    throw Error("{}: needs longrope (rope_factors_long.weight), which is not supported",
                file.path());
  }
}

std::string template_source(const gguf::File& file, const std::string& directory) {
  const std::string path = directory + "/tokenizer_config.json";
  if (!directory.empty() && fs::exists(path)) {
    const json::object config = read_json_object(path);
    const json::value* source = config.if_contains("chat_template");
    if (source != nullptr && source->is_string()) return std::string(source->get_string());
    // A list of named templates.
    if (source != nullptr && source->is_array()) {
      for (const json::value& entry : source->get_array()) {
        const json::object* named = entry.if_object();
        if (named != nullptr && named->contains("name") && named->at("name") == "default" &&
            named->contains("template") && named->at("template").is_string()) {
          return std::string(named->at("template").get_string());
        }
      }
    }
  }
  if (!directory.empty() && fs::exists(directory + "/chat_template.jinja")) {
    return read_text_file(directory + "/chat_template.jinja");
  }
  return std::string(file.get_string_or("tokenizer.chat_template", ""));
}

// The file's name without ending and part number: what people call the model they downloaded.
std::string served_name(const std::string& path) {
  std::string name = fs::path(path).stem().string();
  constexpr std::string_view kPart = "-00001-of-00001";
  const size_t cut = name.size() > kPart.size() ? name.size() - kPart.size() : 0;
  if (cut > 0 && name.compare(cut, 2, "-0") == 0 && name.compare(cut + 6, 4, "-of-") == 0)
    name.resize(cut);
  return name;
}

}  // namespace

ModelFiles open_model(const std::string& gguf_path, const std::string& model_path) {
  std::string weights = gguf_path;
  std::string directory;
  if (!model_path.empty()) {
    if (fs::is_directory(model_path)) {
      directory = model_path;
    } else if (fs::is_regular_file(model_path) && weights.empty()) {
      weights = model_path;  // as users of other programs expect of a file
    } else if (weights.empty()) {
      throw Error(
          "--model_path {}: is neither a directory nor a file; nothing is downloaded, so give the "
          "weights "
          "with --gguf_path",
          model_path);
    } else {
      log::warn(
          "--model_path {}: is no directory; the tokenizer and template of the GGUF file are used",
          model_path);
    }
  }
  if (weights.empty()) weights = directory.empty() ? default_model() : directory;

  ModelFiles files;
  files.weights = gguf::File::open(weights);
  refuse_old_and_odd_forms(*files.weights);
  if (!directory.empty() && fs::exists(directory + "/config.json")) {
    check_shape(directory + "/config.json", *files.weights);
  }
  if (!directory.empty() && fs::exists(directory + "/tokenizer.json")) {
    files.tokenizer = tokenizer::Tokenizer::from_directory(directory);
  } else {
    files.tokenizer = tokenizer::Tokenizer::from_gguf(*files.weights);
  }
  if (const std::string source = template_source(*files.weights, directory); !source.empty()) {
    auto parsed = chat::ChatTemplate::parse(source);
    if (parsed) {
      files.chat_template = *parsed;
    } else {  // text completions work all the same
      files.chat_template_error = parsed.failure().message;
      log::warn("{}: no chat, as its template is broken: {}", weights, files.chat_template_error);
    }
  }
  files.name = served_name(std::string(files.weights->path()));
  return files;
}

}  // namespace tandem::cli
