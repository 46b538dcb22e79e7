// `tandem render`: a chat template with conversations, one rendered line of JSON each.
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/error.h"
#include "chat/chat_template.h"
#include "cli/verbs.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

constexpr size_t kMaxJsonDepth = 256;

struct Options {
  std::string cases_path;
  std::string now;
};

json::object read_cases(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error("{}: cannot be read; name a JSON file with \"template\" and \"cases\"", path);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  json::error_code error;
  json::value parsed = json::parse(text, error, {}, options);
  if (error) throw Error("{}: not valid JSON ({})", path, error.message());
  const auto* object = parsed.if_object();
  const auto* source = object == nullptr ? nullptr : object->if_contains("template");
  const auto* cases = object == nullptr ? nullptr : object->if_contains("cases");
  if (source == nullptr || !source->is_string() || cases == nullptr || !cases->is_array()) {
    throw Error("{}: needs a text \"template\" and a list \"cases\"", path);
  }
  return std::move(parsed.as_object());
}

std::tm local_time(const std::string& text) {
  std::tm time{};
  if (text.empty()) {
    const std::time_t now = std::time(nullptr);
    localtime_r(&now, &time);
    return time;
  }
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  if (end == nullptr || *end != '\0')
    throw Error("--now {}: expected the form 2026-01-02T03:04:05", text);
  return time;
}

json::object render_case(const chat::ChatTemplate& chat_template, const json::value& entry,
                         const std::tm& now) {
  const auto* object = entry.if_object();
  const auto* name = object == nullptr ? nullptr : object->if_contains("name");
  const auto* context = object == nullptr ? nullptr : object->if_contains("context");
  json::object line;
  line["name"] = name == nullptr ? json::value(nullptr) : *name;
  if (context == nullptr || !context->is_object()) {
    line["error"] = "the case has no object \"context\"";
    return line;
  }
  const auto text = chat_template.render(context->get_object(), now);
  if (text) {
    line["text"] = *text;
  } else {
    line["error"] = text.failure().message;
  }
  return line;
}

int render(const Options& options) {
  const json::object file = read_cases(options.cases_path);
  const std::tm now = local_time(options.now);
  const auto chat_template =
      chat::ChatTemplate::parse(std::string(file.at("template").as_string()));
  if (!chat_template) throw Error("{}: {}", options.cases_path, chat_template.failure().message);
  for (const json::value& entry : file.at("cases").as_array()) {
    std::cout << json::serialize(render_case(**chat_template, entry, now)) << '\n';
  }
  std::cout.flush();
  return 0;
}

}  // namespace

void add_render(CLI::App& app, int* exit_code) {
  auto* verb = app.add_subcommand("render", "Render a chat template with given conversations");
  auto options = std::make_shared<Options>();
  verb->add_option("--cases", options->cases_path,
                   "JSON file: \"template\" and \"cases\" with \"name\" and \"context\"")
      ->required();
  verb->add_option("--now", options->now,
                   "What strftime_now shows, e.g. 2026-01-02T03:04:05; else the local time");
  verb->callback([options, exit_code] { *exit_code = render(*options); });
}

}  // namespace tandem::cli
