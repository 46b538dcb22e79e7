// {"experts": E, "layers": {"1": [E numbers], ...}}
#include "engine/hot_file.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace tandem::engine {
namespace {

namespace json = boost::json;

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error("--hot_experts {}: {}; delete it to begin without", path, why);
}

const json::value& member(const json::object& object, const char* name, const std::string& path) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr) refuse(path, fmt::format("\"{}\" is missing", name));
  return *value;
}

void read_layer(const json::value& value, const std::string& path, const std::string& layer,
                std::span<double> counts) {
  const json::array* list = value.if_array();
  if (list == nullptr || list->size() != counts.size()) {
    refuse(path, fmt::format("layer {} is no list of {} numbers", layer, counts.size()));
  }
  for (size_t i = 0; i < counts.size(); ++i) {
    const json::value& count = (*list)[i];
    if (!count.is_number() || count.to_number<double>() < 0.0) {
      refuse(path, fmt::format("expert {} of layer {} has no count", i, layer));
    }
    counts[i] = count.to_number<double>();
  }
}

}  // namespace

HotCounts read_hot_file(const std::string& path, std::span<const int> layers, int experts) {
  HotCounts out{{layers.begin(), layers.end()},
                experts,
                std::vector<double>(layers.size() * static_cast<size_t>(experts))};
  if (!std::filesystem::exists(path)) return out;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) throw Error("--hot_experts {}: cannot be read: {}", path, std::strerror(errno));
  const Result<json::value> parsed = parse_json(text.str());
  if (!parsed) refuse(path, parsed.failure().message);
  const json::object* root = parsed->if_object();
  if (root == nullptr) refuse(path, "it is no object");
  const json::value& count = member(*root, "experts", path);
  if (!count.is_int64() || count.as_int64() != experts) {
    refuse(path, fmt::format("it is of another model, layers here have {} experts", experts));
  }
  const json::object* lists = member(*root, "layers", path).if_object();
  if (lists == nullptr) refuse(path, "\"layers\" is no object");
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string name = std::to_string(layers[i]);
    const json::value* list = lists->if_contains(name);
    if (list == nullptr) continue;
    const size_t first = i * static_cast<size_t>(experts);
    read_layer(*list, path, name,
               std::span(out.counts).subspan(first, static_cast<size_t>(experts)));
  }
  return out;
}

void write_hot_file(const std::string& path, const HotCounts& counts) {
  json::object layers;
  for (size_t i = 0; i < counts.layers.size(); ++i) {
    json::array list;
    for (int e = 0; e < counts.experts; ++e) {
      const double count =
          counts.counts[i * static_cast<size_t>(counts.experts) + static_cast<size_t>(e)];
      list.push_back(std::round(count * 10.0) / 10.0);
    }
    layers[std::to_string(counts.layers[i])] = std::move(list);
  }
  const json::object root = {{"experts", counts.experts}, {"layers", std::move(layers)}};
  const std::string scratch = path + ".part";
  std::ofstream file(scratch, std::ios::binary);
  file << to_string(root) << '\n';
  file.close();
  if (!file || std::rename(scratch.c_str(), path.c_str()) != 0) {
    throw Error("--hot_experts {}: cannot be written: {}", path, std::strerror(errno));
  }
}

}  // namespace tandem::engine
