// Finds the files of a model, maps them and joins the parts of a split one.
#include "gguf/file.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>

#include "base/error.h"
#include "gguf/container.h"
#include "platform/mapped_file.h"

namespace tandem::gguf {
namespace {

namespace fs = std::filesystem;

// "name-00002-of-00005.gguf"
struct SplitName {
  std::string stem;
  int number;
  int count;
};

std::optional<SplitName> parse_split_name(const std::string& path) {
  constexpr std::string_view kForm = "-00000-of-00000.gguf";
  if (path.size() <= kForm.size()) return std::nullopt;
  const std::string tail = path.substr(path.size() - kForm.size());
  SplitName name{.stem = path.substr(0, path.size() - kForm.size()), .number = 0, .count = 0};
  const auto number = [&](size_t at, int& value) {
    const auto [end, error] = std::from_chars(tail.data() + at, tail.data() + at + 5, value);
    return error == std::errc() && end == tail.data() + at + 5;
  };
  if (tail[0] != '-' || tail.compare(6, 4, "-of-") != 0 || tail.compare(15, 5, ".gguf") != 0 ||
      !number(1, name.number) || !number(10, name.count)) {
    return std::nullopt;
  }
  return name;
}

// The one model in a directory: a file, or the first part of a split one.
std::string only_model_in(const std::string& directory) {
  std::map<std::string, std::string> models;  // stem -> first file
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".gguf") continue;
    const std::optional<SplitName> split = parse_split_name(path);
    std::string& first = models[split ? split->stem : path];
    if (first.empty() || path < first) first = path;
  }
  if (error) throw Error("{}: cannot be read: {}", directory, error.message());
  if (models.empty()) throw Error("{}: holds no .gguf file", directory);
  if (models.size() > 1) {
    std::string names;
    for (const auto& [stem, path] : models) names += "\n  " + path;
    throw Error("{}: holds {} models, name one of them:{}", directory, models.size(), names);
  }
  return models.begin()->second;
}

std::vector<std::string> files_of_model(const std::string& path) {
  const std::optional<SplitName> split = parse_split_name(path);
  if (!split) return {path};
  if (split->count < 1 || split->number < 1 || split->number > split->count) {
    throw Error("{}: is part {} of {}", path, split->number, split->count);
  }
  std::vector<std::string> paths;
  for (int i = 1; i <= split->count; ++i) {
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", split->stem, i, split->count));
    if (!fs::exists(paths.back())) {
      throw Error("{}: part {} of {} of the model is missing", paths.back(), i, split->count);
    }
  }
  return paths;
}

class MappedModel : public File {
 public:
  explicit MappedModel(const std::vector<std::string>& paths) : path_(paths[0]) {
    for (size_t i = 0; i < paths.size(); ++i) add_file(paths[i], static_cast<int>(i), paths.size());
    const uint64_t expected = get_u64_or("split.tensors.count", tensors_.size());
    if (expected != tensors_.size()) {
      throw Error("{}: its parts hold {} tensors, split.tensors.count says {}", path_,
                  tensors_.size(), expected);
    }
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (!tensor_index_.emplace(tensors_[i].name, i).second) {
        throw Error("{}: tensor '{}' is in two parts of the model", path_, tensors_[i].name);
      }
    }
  }

  std::string_view path() const override { return path_; }
  uint32_t version() const override { return version_; }
  uint64_t total_bytes() const override {
    uint64_t total = 0;
    for (const platform::MappedFile& file : files_) total += file.bytes().size();
    return total;
  }
  std::span<const Entry> metadata() const override { return metadata_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }

  const Entry* find(std::string_view key) const override {
    const auto found = entry_index_.find(key);
    return found == entry_index_.end() ? nullptr : &metadata_[found->second];
  }
  const TensorInfo* find_tensor(std::string_view name) const override {
    const auto found = tensor_index_.find(name);
    return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
  }
  void read(const TensorInfo& tensor, uint64_t offset, std::span<std::byte> out) const override {
    files_[static_cast<size_t>(tensor.file_index)].read(tensor.offset + offset, out);
  }

 private:
  void add_file(const std::string& path, int index, size_t count) {
    files_.emplace_back(path);
    Container container = parse_container(path, files_.back().bytes(), index);
    check_split(path, container, index, count);
    if (index == 0) {
      version_ = container.version;
      metadata_ = std::move(container.metadata);
      for (size_t i = 0; i < metadata_.size(); ++i) entry_index_.emplace(metadata_[i].key, i);
    }
    tensors_.insert(tensors_.end(), container.tensors.begin(), container.tensors.end());
  }

  // What a part says of itself must agree with its name.
  static void check_split(const std::string& path, const Container& container, int index,
                          size_t count) {
    const auto value = [&](std::string_view key) -> std::optional<uint64_t> {
      const Entry* entry = container.find(key);
      if (entry == nullptr) return std::nullopt;
      if (const auto* number = std::get_if<uint64_t>(&entry->value)) return *number;
      throw Error("{}: {} is not an unsigned integer", path, key);
    };
    const std::optional<uint64_t> parts = value("split.count");
    const std::optional<uint64_t> number = value("split.no");
    if (parts && *parts > 1 && count == 1) {
      throw Error("{}: is one of {} parts; its name must end in -00001-of-{:05}.gguf", path, *parts,
                  *parts);
    }
    if (count == 1) return;
    if (!parts || !number || *parts != count || *number != static_cast<uint64_t>(index)) {
      throw Error("{}: its name says part {} of {}, its metadata differ", path, index + 1, count);
    }
  }

  std::string path_;
  uint32_t version_ = 0;
  std::vector<platform::MappedFile> files_;
  std::vector<Entry> metadata_;  // of the first file
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> entry_index_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

}  // namespace

std::unique_ptr<File> File::open(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw Error("{}: does not exist", path);
  const std::string file = fs::is_directory(path, error) ? only_model_in(path) : path;
  return std::make_unique<MappedModel>(files_of_model(file));
}

}  // namespace tandem::gguf
